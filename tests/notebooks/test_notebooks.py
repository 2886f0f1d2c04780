"""The notebooks are what their sources make, small, and carry nothing of a machine."""

import base64
import copy
import io

import nbformat
import numpy as np
import pytest
from PIL import Image

from notebooks.build import ROOT, BuildError, build, chosen
from notebooks.cells import (
    KERNEL,
    REPOSITORY,
    names,
    notebook,
    parts,
    path_of,
    read_source,
)
from notebooks.outputs import MOST_BYTES, clean, faults

pytestmark = [pytest.mark.quick, pytest.mark.once]
NAMES = names()


def code_with(*outputs):
    """Returns a notebook of one cell that gave these outputs."""
    cell = nbformat.v4.new_code_cell("1", outputs=list(outputs), id="cell-00")
    return nbformat.v4.new_notebook(cells=[cell], metadata=copy.deepcopy(KERNEL))


def printed(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


# === What is committed ===
@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_its_source(name):
    node = nbformat.read(path_of(name), as_version=4)
    nbformat.validate(node)
    assert parts(node) == parts(notebook(read_source(name)))


@pytest.mark.parametrize("name", NAMES)
def test_outputs_can_be_committed(name):
    node = nbformat.read(path_of(name), as_version=4)
    assert not faults(node, ROOT)
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    pictures = [
        output for cell in code for output in cell.outputs if "image/" in str(output)
    ]
    assert pictures, "something to look at"


@pytest.mark.parametrize("name", NAMES)
def test_what_all_notebooks_share(name):
    node = nbformat.read(path_of(name), as_version=4)
    title, badges = node.cells[0].source.split("\n")[:2]
    assert title.startswith("# ")
    assert f"colab.research.google.com/github/{REPOSITORY}/blob/" in badges
    first = next(cell for cell in node.cells if cell.cell_type == "code")
    assert "google.colab" in first.source
    assert 'setdefault("KERAS_BACKEND", installed[0] if ' in first.source
    assert f'("{read_source(name).backends[0]}",' in first.source
    code = [cell.source for cell in node.cells if cell.cell_type == "code"]
    assert sum('PRESET = "pe_core_emoji_patch8_64"' in text for text in code) == 1
    assert "## Where to go on" in node.cells[-1].source


@pytest.mark.parametrize("name", NAMES)
def test_pages_that_are_named_are_there(name):
    text = "\n".join(cell.source for cell in read_source(name).cells)
    start = f"https://github.com/{REPOSITORY}/blob/main/"
    for target in text.split(start)[1:]:
        path = target.split(")")[0].split("#")[0]
        assert (ROOT / path).exists(), path
    prose = "\n".join(
        cell.source for cell in read_source(name).cells if cell.cell_type == "markdown"
    )
    for target in prose.split("](")[1:]:  # in code it is a call of an element
        path = target.split(")")[0]
        if "://" not in path:
            assert (ROOT / "notebooks" / path).exists(), path


# === What builds them ===
@pytest.mark.parametrize(
    ("output", "said"),
    [
        (printed("in /home/someone/keras_pe/x.png"), "a place of this machine"),
        (printed(f"in {ROOT}/x.png"), "a place of this machine"),
        (printed("lib/python3.11/site-packages/keras/a.py:1"), "a place of this mach"),
        (printed("a warning", "stderr"), "what went to stderr"),
        (printed("x" * MOST_BYTES), "bytes, more than"),
        (nbformat.v4.new_output("error", ename="ValueError", evalue="no"), "an error"),
    ],
)
def test_faults_are_found(output, said):
    assert any(said in fault for fault in faults(code_with(output), ROOT))
    assert not faults(code_with(printed("1,234 drawings")), ROOT)


def test_a_notebook_without_outputs_is_refused():
    assert faults(code_with(), ROOT) == ["has no outputs"]


def test_what_goes_to_stderr_is_left_out_and_told():
    node = code_with(printed("kept\n"), printed("a bar\n", "stderr"))
    assert clean(node) == ["a bar\n"]
    assert [output.text for output in node.cells[0].outputs] == ["kept\n"]


def cleaned(pixels):
    """Returns kind, size and pixels of a picture after `clean`, and how small it is."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    data = {"image/png": base64.b64encode(buffer.getvalue()).decode()}
    node = code_with(nbformat.v4.new_output("display_data", data=dict(data)))
    clean(node)
    ((kind, encoded),) = node.cells[0].outputs[0].data.items()
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        found = np.asarray(image.convert("RGB")).astype(int)
    return kind, found, len(encoded) / len(data["image/png"])


def test_pictures_are_made_small():
    noise = np.random.default_rng(0).integers(0, 256, (300, 2000, 3), "uint8")
    kind, found, share = cleaned(noise)
    assert (kind, found.shape) == ("image/jpeg", (126, 840, 3))
    assert share < 1 / 4


def test_a_plot_keeps_its_pixels_and_a_photograph_its_shades():
    plot = np.full((90, 120, 3), 255, "uint8")
    plot[20:40, 10:100] = (200, 30, 60)
    plot[50:52] = (31, 119, 180)
    kind, found, _ = cleaned(plot)
    assert kind == "image/png"
    np.testing.assert_array_equal(found, plot)
    y, x = np.mgrid[0:200, 0:300]
    sky = np.stack([x * 255 / 300, y * 255 / 200, 255 - x * 255 / 300], axis=-1)
    kind, found, _ = cleaned(sky.astype("uint8"))
    assert kind == "image/jpeg"
    assert np.abs(found - sky).mean() < 2
    steps = np.abs(np.diff(found[:, :, 0], axis=1))
    assert steps.max() <= 6  # a palette made steps of 16 and more


def test_outputs_of_other_code_are_never_kept(monkeypatch, tmp_path):
    name = NAMES[0]
    other = nbformat.read(path_of(name), as_version=4)
    code = [cell for cell in other.cells if cell.cell_type == "code"]
    assert parts(build(name)) == parts(other)
    code[-1].source += "\n1"
    path = tmp_path / "other.ipynb"
    path.write_text(nbformat.writes(other), "utf-8")
    monkeypatch.setattr("notebooks.build.path_of", lambda _: path)
    with pytest.raises(BuildError, match="has changed since it was run: add --execute"):
        build(name)


def test_names_are_understood():
    assert chosen([]) == NAMES
    assert chosen([NAMES[0][:2]]) == NAMES[:1]
    with pytest.raises(BuildError, match="'99' is none of 01_"):
        chosen(["99"])


def test_a_source_says_where_it_runs(monkeypatch, tmp_path):
    (tmp_path / "sources").mkdir()
    source = tmp_path / "sources" / "01_x.py"
    monkeypatch.setattr("notebooks.cells.HERE", tmp_path)
    source.write_text("# %% [markdown]\n# # X\n")
    with pytest.raises(ValueError, match="must begin with `# extras"):
        read_source("01_x")
    source.write_text("# extras: probe\n# backends: mxnet\n# %% [markdown]\n# # X\n")
    with pytest.raises(ValueError, match="of torch, jax, tensorflow"):
        read_source("01_x")
    source.write_text("# extras: probe\n# backends: jax\n# %% [markdown]\n# X\n")
    with pytest.raises(ValueError, match="must begin with a title, got 'X'"):
        read_source("01_x")


def test_the_readme_names_all_of_them():
    text = (ROOT / "README.md").read_text("utf-8")
    for name in NAMES:
        assert f"notebooks/{name}.ipynb" in text
