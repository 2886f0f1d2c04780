"""Which files a page reads: below one folder alone, and of a zip only pictures."""

import io
import re
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import keras_pe.app
from keras_pe.app import class_pictures
from keras_pe.app.allowed_folder import AllowedFolder
from keras_pe.app.class_pictures import folder_classes, zip_classes
from keras_pe.cli.main import main
from tests.app.parts import noise, zipped

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.fixture
def allowed(tmp_path):
    """A folder that may be read, beside one that may not."""
    noise(tmp_path / "secret" / "private.png", 8, 8)
    for name in ("owl/1.png", "owl/2.png", "cat/1.png"):
        noise(tmp_path / "root" / name, 8, 8)
    (tmp_path / "root" / "way_out").symlink_to(tmp_path / "secret")
    (tmp_path / "root" / "owl" / "3.png").symlink_to(tmp_path / "secret/private.png")
    (tmp_path / "rooted").mkdir()  # its name begins like the root's
    return AllowedFolder(tmp_path / "root")


@pytest.mark.parametrize(
    "typed",
    [
        *("..", "../secret", "owl/../../secret", "/", "/etc", "way_out", "~/../.."),
        *("../rooted", "../no_such", "way_out/private.png", "a\0b", "//etc"),
    ],
)
def test_no_path_leads_out(allowed, typed):
    wanted = "leads out" if not typed.startswith("~") else "leads out|no folder"
    with pytest.raises(ValueError, match=wanted):
        allowed.below(typed)


def test_what_is_there_is_read(allowed, tmp_path):
    assert allowed.below(" owl ") == allowed.root / "owl"
    assert allowed.below(str(tmp_path / "root" / "owl")).name == "owl"
    found = [str(p.relative_to(allowed.root)) for p in allowed.pictures(allowed.root)]
    assert found == ["cat/1.png", "owl/1.png", "owl/2.png"]  # none through a link
    with pytest.raises(ValueError, match="no folder 'dog' in root"):
        allowed.below("dog")
    with pytest.raises(ValueError, match=r"no folder 'owl/1\.png'"):
        allowed.below("owl/1.png")
    with pytest.raises(ValueError, match="No such folder"):
        AllowedFolder(tmp_path / "gone")


def test_classes_of_a_folder(allowed):
    found = folder_classes(allowed, allowed.root)
    assert found.class_names == ["cat", "owl"]
    assert found.names == ["cat/1.png", "owl/1.png", "owl/2.png"]
    assert found.labels == [0, 1, 1]
    with pytest.raises(ValueError, match="'owl' holds no pictures in two or more"):
        folder_classes(allowed, allowed.below("owl"))


def png():
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "png")
    return buffer.getvalue()


def test_classes_of_a_zip(tmp_path):
    names = {
        "top/great_owl/b.png": png(),
        "top/great_owl/a.PNG": png(),
        "top/cat/../../../../evil.png": png(),
        "/cat/x.png": png(),
        "__MACOSX/top/cat/._x.png": png(),
        "top/cat/notes.txt": b"no picture",
        "loose.png": png(),
    }
    archive = zipped(tmp_path / "all.zip", names)
    (tmp_path / "to").mkdir()
    found = zip_classes(archive, tmp_path / "to")
    assert found.class_names == ["cat", "great owl"]
    assert found.names == ["cat/x.png", "great_owl/a.PNG", "great_owl/b.png"]
    assert sorted(tmp_path.rglob("*.png")) == found.paths  # nothing lies elsewhere
    assert {path.parent for path in found.paths} == {tmp_path / "to"}
    assert found.paths[0].read_bytes() == png()


def test_zips_that_are_refused(tmp_path, monkeypatch):
    two = {"a/1.png": bytes(3000), "b/2.png": bytes(3000)}
    good = zipped(tmp_path / "good.zip", two)

    def refused(path, wanted):
        folder = tmp_path / wanted.split()[0]
        folder.mkdir(exist_ok=True)
        with pytest.raises(ValueError, match=wanted):
            zip_classes(path, folder)

    no_zip = tmp_path / "<b>.zip"
    no_zip.write_bytes(b"PK nothing")
    refused(no_zip, "no sound zip file")
    cut = bytearray(good.read_bytes())
    cut[40:50] = b"\xff" * 10
    (tmp_path / "cut.zip").write_bytes(cut)
    refused(tmp_path / "cut.zip", "no sound zip file")
    refused(zipped(tmp_path / "one.zip", {"a/1.png": b""}), "two or more folders")
    refused(zipped(tmp_path / "empty.zip", {}), "holds no pictures")
    with zipfile.ZipFile(tmp_path / "odd.zip", "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("a/1.png", b"1")
    refused(tmp_path / "odd.zip", "an unusual way")
    locked = bytearray(good.read_bytes())
    place = locked.index(b"PK\x01\x02")
    locked[place + 8] |= 1  # of the central directory: encrypted
    (tmp_path / "locked.zip").write_bytes(locked)
    refused(tmp_path / "locked.zip", "is encrypted")
    monkeypatch.setattr(class_pictures, "MOST_BYTES", 5000)
    refused(good, "unpacks to more than")
    monkeypatch.setattr(class_pictures, "MOST_FILES", 1)
    refused(good, "holds 2 pictures; this page takes at most 1")


# === Gradio ===
WITH_GRADIO = {"ask_tab", "map_tabs", "page", "parts_of_a_page", "server", "told"}


def test_gradio_is_imported_where_the_page_is_made_alone():
    package = Path(keras_pe.__file__).parent
    importers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(
            r"^ *(import|from) (gradio|starlette)\b", path.read_text("utf-8"), re.M
        )
    }
    assert importers == {f"app/{name}.py" for name in WITH_GRADIO}


def test_what_is_computed_needs_no_gradio():
    """Nothing else of the folder imports those, but where the page is started."""
    folder = Path(keras_pe.app.__file__).parent
    computed = {path.stem for path in folder.glob("*.py")} - WITH_GRADIO
    assert len(computed) > 8
    for name in computed:
        text = (folder / f"{name}.py").read_text("utf-8")
        imported = re.findall(r"^(?:from|import) keras_pe\.app\.(\w+)", text, re.M)
        assert not {*imported} & WITH_GRADIO, name


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 1
    assert 'pip install "keras-pe[app]"' in capsys.readouterr().err
