"""Building, opening and searching an index of images."""

from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_pe import PETokenizer
from keras_pe.arrays import NonFiniteError
from keras_pe.preprocessing import ImageError, PEImageConverter
from keras_pe.search import ImageIndex
from keras_pe.search.image_index import find_images
from tests.small_models import core, perturb

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def model():
    return perturb(core())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    (folder / "below").mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg", "below/c.webp", "below/d.PNG"):
        noise = rng.integers(0, 255, (30, 30, 3)).astype("uint8")
        Image.fromarray(noise).save(folder / name)
    (folder / "broken.png").write_bytes(b"nothing")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def index(model, folder, tmp_path_factory):
    directory = tmp_path_factory.mktemp("index") / "images.index"
    ImageIndex.build(model, folder, directory, batch_size=2, max_skipped_share=0.5)
    return directory


@pytest.mark.slow
def test_each_image_finds_itself_first(model, folder, index):
    opened = ImageIndex.open(index)
    assert len(opened) == 4
    for path in opened.paths:
        query = opened.query_image(model, path)
        matches = opened.search(query, top_k=4)
        assert matches[0].path == path
        assert matches[0].similarity == pytest.approx(1.0, abs=1e-4)
        similarities = [match.similarity for match in matches]
        assert similarities == sorted(similarities, reverse=True)


@pytest.mark.slow
def test_text_search_agrees_with_the_matrix_product(model, index):
    opened = ImageIndex.open(index)
    tokenizer = PETokenizer(context_length=8, vocabulary_size=600)
    query = opened.query_text(model, tokenizer, "a cat")
    vectors = np.stack([opened.query_image(model, path) for path in opened.paths])
    expected = [opened.paths[i] for i in np.argsort(-(vectors @ query))]
    assert [match.path for match in opened.search(query)] == expected


def test_skipped_images_are_named(model, folder, tmp_path):
    built = ImageIndex.build(model, folder, tmp_path / "index", max_skipped_share=0.5)
    (name,) = built.report.names
    assert name.endswith("broken.png")


@pytest.mark.slow
def test_another_model_is_refused(index):
    other = perturb(core(), seed=9)
    with pytest.raises(ValueError, match="another model"):
        ImageIndex.open(index).query_image(other, Image.new("RGB", (9, 9)))


def test_other_directories_are_left_alone(model, folder, tmp_path):
    (tmp_path / "precious.txt").write_text("keep")
    with pytest.raises(ValueError, match="is no image index, so it is not replaced"):
        ImageIndex.build(model, folder, tmp_path)
    assert (tmp_path / "precious.txt").read_text() == "keep"


def test_what_lies_beside_an_index_is_not_deleted(model, folder, tmp_path):
    directory = tmp_path / "index"
    ImageIndex.build(model, folder, directory, max_skipped_share=0.5)
    (directory / "precious.txt").write_text("keep")
    with pytest.raises(ValueError, match=r"holds precious\.txt beside index\.json"):
        ImageIndex.build(model, folder, directory, max_skipped_share=0.5)
    assert (directory / "precious.txt").read_text() == "keep"


def test_failed_build_keeps_the_old_index(model, folder, tmp_path):
    directory = tmp_path / "index"
    ImageIndex.build(model, folder, directory, max_skipped_share=0.5)
    with pytest.raises(ValueError, match="too many images skipped"):
        ImageIndex.build(model, folder, directory, max_skipped_share=0.0)
    assert len(ImageIndex.open(directory)) == 4
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_model_that_gives_nan_is_refused(model, folder, tmp_path, index):
    broken = perturb(core())
    weight = broken.vision_encoder.weights[0]
    weight.assign(np.full(weight.shape, np.nan, "float32"))
    with pytest.raises(NonFiniteError, match="embedding of a test image"):
        ImageIndex.build(broken, folder, tmp_path / "index", max_skipped_share=0.5)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(NonFiniteError, match="embedding of a test image"):
        ImageIndex.open(index).check_model(broken)


def test_a_fingerprint_of_nan_fits_no_model(model, index):
    opened = ImageIndex.open(index)
    opened.check_model(model)
    opened.fingerprint = np.full_like(opened.fingerprint, np.nan)
    with pytest.raises(ValueError, match="another model"):
        opened.check_model(model)


def test_queries_are_checked(index):
    opened = ImageIndex.open(index)
    query = np.ones(opened.vectors.shape[1], "float32")
    with pytest.raises(ValueError, match="Expected a query of shape"):
        opened.search(query[1:])
    query[0] = np.nan
    with pytest.raises(NonFiniteError):
        opened.search(query)
    query[0] = 1.0
    assert [m.similarity for m in opened.search(query)] == pytest.approx(
        [m.similarity for m in opened.search(5 * query)]
    )


def test_queries_of_any_library_and_size(index):
    opened = ImageIndex.open(index)
    query = np.random.default_rng(0).normal(size=opened.vectors.shape[1])
    expected = opened.vectors @ (query / np.linalg.norm(query))
    tensor = keras.ops.convert_to_tensor(query.astype("float32"))
    if keras.backend.backend() == "torch":
        tensor = tensor.requires_grad_()
    for one in (query, query * 1e200, query * 1e-200, query.tolist(), tensor):
        found = [m.similarity for m in opened.search(one)]
        np.testing.assert_allclose(found, np.sort(expected)[::-1], atol=1e-6)


def test_a_query_is_one_image(model, folder, index):
    opened = ImageIndex.open(index)
    path = opened.paths[0]
    alone = opened.query_image(model, path)
    for one in ([path], path.read_bytes(), np.asarray(Image.open(path))[None]):
        np.testing.assert_allclose(opened.query_image(model, one), alone, atol=1e-6)
    for several in ([path, opened.paths[1]], [], np.zeros((2, 8, 8, 3), "uint8")):
        with pytest.raises(ValueError, match=r"A query is one image, got [02]\."):
            opened.query_image(model, several)
    lenient = PEImageConverter(model.vision_encoder.image_size, on_error="skip")
    with pytest.raises(ImageError, match="missing file"):
        opened.query_image(model, "none.png", lenient)


def test_where_nothing_can_be_written_no_image_is_read(model, folder, tmp_path):
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file", tmp_path / "file" / "index", ""):
        with pytest.raises((ValueError, OSError), match=r"is a file|can't be|is empty"):
            ImageIndex.build(model, folder, place)  # the broken one is not reached


def test_images_are_found_below_a_folder(folder, tmp_path):
    assert len(find_images(folder)) == 5
    with pytest.raises(ValueError, match="No images in"):
        find_images(tmp_path)
    with pytest.raises(ValueError, match="No such image"):
        find_images(tmp_path / "none.png")
    for empty in ("", [""]):  # Path("") would be the working directory
        with pytest.raises(ValueError, match="is empty"):
            find_images(empty)


def test_vectors_that_do_not_fit_are_refused():
    paths, mark = [Path("a.png"), Path("b.png")], np.ones(3, "float32")
    for vectors, wanted in (
        (np.ones((3, 3), "float32"), r"vectors of shape \(3, 3\) for 2 paths"),
        (np.ones((1, 3), "float32"), r"vectors of shape \(1, 3\) for 2 paths"),
        (np.ones(2, "float32"), r"vectors of shape \(2,\) for 2 paths"),
        (np.ones((2, 3), "int8"), "got dtype int8, expected floating-point"),
        (np.ones((2, 3), complex), "got dtype complex128"),
    ):
        with pytest.raises(ValueError, match=wanted):
            ImageIndex(paths, vectors, mark)
    vectors = np.full((2, 3), 3**-0.5, "float32")
    assert ImageIndex(paths, vectors, mark).vectors is vectors
    narrow = ImageIndex(paths, vectors.astype("float16"), mark)
    assert narrow.vectors.dtype == "float32"
    longer = vectors * np.array([[1.0], [2.0]], "float32")
    with pytest.raises(ValueError, match=r"vector of b\.png has length 2; expected 1"):
        ImageIndex(paths, longer, mark)
    vectors[1, 2] = np.nan
    with pytest.raises(NonFiniteError, match=r"image 1 \(b\.png\) of 2"):
        ImageIndex(paths, vectors, mark)


def test_searches_that_make_no_sense_are_refused():
    index = ImageIndex([Path("a"), Path("b")], np.eye(2, dtype="float32"), np.ones(2))
    query = np.array([0.0, 1.0])
    for top_k in (1.5, 2.0, "2", None, True, 0, -1):
        with pytest.raises(ValueError, match="top_k must be at least 1, and a whole"):
            index.search(query, top_k)
    with pytest.raises(ValueError, match="The query is zero everywhere"):
        index.search(np.zeros(2))
    for size in (1e-30, 1.0, 1e30):
        (match,) = index.search(size * query, np.int64(1))
        assert match.path == Path("b")
        assert match.similarity == pytest.approx(1.0)
