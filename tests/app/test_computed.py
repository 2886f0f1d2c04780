"""What the page shows, computed without Gradio, on each backend."""

import re

import numpy as np
import pytest
from PIL import Image

from keras_pe import PETokenizer, ZeroShotClassifier
from keras_pe.app import layers, naming, searching
from keras_pe.app.class_pictures import ClassPictures
from keras_pe.app.layers import layer_curve
from keras_pe.app.maps import (
    check_patch,
    look_at,
    patch_at,
    pca_picture,
    similarity_picture,
    text_picture,
    with_grid,
)
from keras_pe.app.naming import name_pictures, named_as_html
from keras_pe.app.searching import (
    found_as_html,
    index_pictures,
    search_pictures,
)
from keras_pe.app.texts import cut_texts, lines_of
from keras_pe.preprocessing import ImageError
from keras_pe.visualization import similarity_map
from tests.app.parts import noise, small_parts

BAD_NAME = "<img src=x onerror=alert(1)> & \"b\" 'c'.png"


@pytest.fixture(scope="module")
def parts():
    return small_parts()


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    return [noise(folder / name, seed=n) for n, name in enumerate(("a.png", BAD_NAME))]


@pytest.fixture(scope="module")
def looked(parts, tmp_path_factory):
    """A wide picture: 5 rows and 10 columns of patches."""
    return look_at(parts, noise(tmp_path_factory.mktemp("wide") / "w.png", 40, 80))


# === Names ===
def test_names_are_those_of_the_classifier(parts, paths):
    found = name_pictures(parts, paths, ["owl", "cat", "dog"], top_k=2)
    classifier = ZeroShotClassifier(
        *(parts.model, parts.tokenizer, ["owl", "cat", "dog"], ["{}"]),
        parts.image_converter,
    )
    for picture, best in zip(found.pictures, classifier.predict(paths), strict=True):
        assert [each.name for each in picture.best] == [b.name for b in best[:2]]
        for mine, theirs in zip(picture.best, best, strict=False):
            assert mine.probability == pytest.approx(theirs.probability, abs=1e-5)
    page = named_as_html(found)
    assert len(re.findall("<img ", page)) == 2  # none of them from a name
    assert "onerror=alert(1)&gt; &amp; &quot;b&quot; &#x27;c&#x27;.png" in page


def test_what_is_wrong_with_a_picture_is_a_note(parts, paths, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"nothing")
    found = name_pictures(parts, [bad, paths[0]], ["owl", "OWL", "cat"])
    assert [picture.path for picture in found.pictures] == [paths[0]]
    equal, damaged = found.notes
    assert "owl" in equal
    assert damaged.startswith("bad.png: not an image")
    assert str(tmp_path) not in damaged
    with pytest.raises(ValueError, match=r"None of the pictures .* bad\.png"):
        name_pictures(parts, [bad], ["owl", "cat"])


def test_the_names_that_a_preset_knows(parts, paths):
    best = name_pictures(parts, paths[:1], None).pictures[0].best
    assert {each.name for each in best} == {"an owl", "a pizza"}
    with pytest.raises(ValueError, match="knows no names"):
        name_pictures(parts._replace(metadata={}), paths, None)


@pytest.mark.once
def test_too_few_and_too_many(parts, paths, monkeypatch):
    with pytest.raises(ValueError, match="no picture yet"):
        name_pictures(parts, [], ["owl", "cat"])
    monkeypatch.setattr(naming, "MOST_PICTURES", 1)
    with pytest.raises(ValueError, match="2 pictures; this page names at most 1"):
        name_pictures(parts, paths, ["owl", "cat"])
    assert lines_of(" a \n\n b\n", "name", least=2) == ["a", "b"]
    with pytest.raises(ValueError, match="Got no names; expected 2 to 200"):
        lines_of(" \n", "name", least=2)
    with pytest.raises(ValueError, match=r"Got 1 name; .* always be 100 %"):
        lines_of("owl", "name", least=2)
    with pytest.raises(ValueError, match="Got 3 texts; expected 1 to 2"):
        lines_of("a\nb\nc", "text", most=2)
    with pytest.raises(ValueError, match="A name of 301 characters"):
        lines_of("x" * 301, "name")


@pytest.mark.once
def test_what_is_cut_is_said(parts, paths):
    names = ["owl", "a very long name of something, with more words than can be read"]
    (note,) = name_pictures(parts, paths[:1], names).notes
    assert note == f"Longer than the model reads, and cut: '{names[1]}'"
    tokenizer = PETokenizer(context_length=8)
    (note,) = cut_texts(tokenizer, ["owl " * 7] * 5)
    assert note.endswith(" and 2 more")
    fits = "owl " * 6  # but not in a prompt
    assert cut_texts(tokenizer, [fits]) == []
    assert len(cut_texts(tokenizer, [fits], ["{}", "an {}"])) == 1


# === Maps ===
def test_a_click_finds_its_patch_and_what_is_like_it(parts, looked):
    assert looked.grid == (5, 10)
    height, width = looked.shown.shape[1:3]
    assert patch_at(looked, width - 1, 0) == (0, 9)
    assert patch_at(looked, 0, height - 1) == (4, 0)
    point = patch_at(looked, width * 0.65, height * 0.5)
    assert point == (2, 6)
    picture, cosines = similarity_picture(parts, looked, point, layer=1)
    features = parts.model.vision_encoder.features(looked.images, 1)
    np.testing.assert_allclose(cosines, similarity_map(features, 2, 6)[0], atol=1e-5)
    assert cosines.shape == looked.grid
    assert cosines[2, 6] == pytest.approx(1, abs=1e-4)
    assert min(picture.size) > 100
    colours, _ = pca_picture(parts, looked, layer=1)
    assert colours.size[0] > 2 * 100
    assert list(looked.features) == [1]  # computed once
    marked = np.array(with_grid(looked, point)).astype(int)
    different = np.abs(marked - np.array(with_grid(looked))).sum(-1) > 0
    rows, columns = np.nonzero(different)
    side = height // 5
    assert (rows // side == 2).all()
    assert (columns // side == 6).all()


@pytest.mark.once
def test_a_click_outside_is_refused(looked):
    height, width = looked.shown.shape[1:3]
    for x, y in ((-1, 0), (0, -0.5), (width, 0), (0, height), (float("nan"), 0)):
        with pytest.raises(ValueError, match="outside the picture"):
            patch_at(looked, x, y)
    for row, column in ((5, 0), (0, 10), (-1, 0), (None, 2), (0.5, 1)):
        with pytest.raises(ValueError, match="rows 0 to 4 and columns 0 to 9"):
            check_patch(looked, row, column)


@pytest.mark.once
def test_what_is_no_picture_is_refused(parts, tmp_path):
    with pytest.raises(ValueError, match="no picture yet"):
        look_at(parts, None)
    (tmp_path / "bad.png").write_bytes(b"<svg/>")
    with pytest.raises(ImageError, match=r"^bad\.png: not an image"):
        look_at(parts, tmp_path / "bad.png")


def test_texts_have_a_map_each(parts, looked):
    picture, scores = text_picture(parts, looked, ["an owl", "a cat", "a dog"])
    assert scores.shape == (3, 5, 10)
    assert np.abs(scores[0] - scores[1]).max() > 1e-4
    two, _ = text_picture(parts, looked, ["an owl"])
    assert picture.width == two.width  # two panels in a row, however many texts
    assert picture.height > 1.7 * two.height


# === Layers ===
@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """Twelve dark and twelve light pictures, and one that is none."""
    folder = tmp_path_factory.mktemp("classes")
    paths, labels = [], []
    for number in range(24):
        light = number % 2
        paths.append(folder / f"{number}.png")
        grey = 40 + 150 * light + number
        Image.new("RGB", (32, 32), (grey, grey, grey)).save(paths[-1])
        labels.append(light)
    paths.insert(3, folder / "bad.png")
    paths[3].write_bytes(b"")
    labels.insert(3, 0)
    return ClassPictures(paths, [p.name for p in paths], labels, ["dark", "light"])


def test_the_curve_of_all_layers(parts, classes):
    told = []
    found = layer_curve(
        parts, classes, "knn", lambda share, what: told.append(share), batch_size=8
    )
    assert [row[0] for row in found.table] == [0, 1, 2]
    assert all(low <= score <= high for _, score, low, high in found.table)
    assert found.result.protocol["test"] == 5
    assert found.table[0][1] == 1  # dark and light are told apart without a model
    assert found.summary == found.result.summary()
    assert found.figure.width > 300
    assert told == sorted(told)
    assert told[0] == 0
    assert max(told) == layers.SHARE_OF_FEATURES
    (note,) = found.notes
    assert note.startswith("left out: bad.png: empty file")


@pytest.mark.once
def test_too_few_pictures_for_a_curve(parts, classes, monkeypatch):
    few = ClassPictures(classes.paths[:8], classes.names[:8], [0] * 8, ["a", "b"])
    with pytest.raises(ValueError, match=r"7 pictures of 1 classes .* at least 20"):
        layer_curve(parts, few)
    with pytest.raises(ValueError, match="no probe 'magic'"):
        layer_curve(parts, classes, "magic")
    monkeypatch.setattr(layers, "MOST_PICTURES", 21)
    found = layer_curve(parts, classes)
    assert found.notes[0].startswith("21 of 25 pictures were taken")


# === Search ===
def test_a_picture_finds_itself(parts, paths, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    told = []
    index, notes = index_pictures(
        parts, [*paths, bad], lambda share, what: told.append(what)
    )
    assert [note[:23] for note in notes] == ["left out: bad.png: empt"]
    assert told == ["picture 1 of 3"]
    found = search_pictures(parts, index, picture=paths[1], top_k=5)
    assert len(found) == 2
    assert found[0].name == BAD_NAME
    assert found[0].similarity == pytest.approx(1, abs=1e-4)
    page = found_as_html(found)
    assert len(re.findall("<img ", page)) == 2
    assert "<b>1.000</b> &lt;img src=x onerror=alert(1)&gt; &amp;" in page
    assert max(found[0].picture.size) == 40  # nothing is enlarged
    by_text = search_pictures(parts, index, " an owl ")
    query = index.query_text(parts.model, parts.tokenizer, "an owl")
    assert [each.name for each in by_text] == [
        match.path.name for match in index.search(query)
    ]


@pytest.mark.once
def test_what_can_not_be_searched(parts, paths, tmp_path, monkeypatch):
    index, _ = index_pictures(parts, paths)
    with pytest.raises(ValueError, match="index some first"):
        search_pictures(parts, None, "owl")
    for text, picture, found in (("", None, "neither"), ("a", paths[0], "both")):
        with pytest.raises(ValueError, match=f"got {found}"):
            search_pictures(parts, index, text, picture)
    with pytest.raises(ValueError, match="no pictures to search yet"):
        index_pictures(parts, [])
    with pytest.raises(ValueError, match="None of the pictures"):
        index_pictures(parts, [tmp_path / "gone.png"])
    monkeypatch.setattr(searching, "MOST_PICTURES", 1)
    with pytest.raises(ValueError, match="2 pictures; this page indexes at most 1"):
        index_pictures(parts, paths)


@pytest.mark.once
def test_a_picture_that_is_gone_is_grey(parts, tmp_path):
    path = noise(tmp_path / "gone.png")
    index, _ = index_pictures(parts, [path])
    path.unlink()
    (found,) = search_pictures(parts, index, "owl")
    assert found.picture.getpixel((0, 0)) == searching.PLACEHOLDER[1]
