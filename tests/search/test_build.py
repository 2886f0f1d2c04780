"""A build that was stopped goes on; an update embeds what is new."""

import os

import numpy as np
import pytest
from PIL import Image

from keras_pe import PEImageConverter
from keras_pe.files import TargetBusyError, only_writer, parts_of
from keras_pe.search import ImageIndex
from keras_pe.search import build as building
from keras_pe.search.index_files import IMAGES, INDEX, VECTORS
from tests.small_models import core, perturb

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def model():
    return perturb(core())


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(9):
        noise = rng.integers(0, 255, (12, 12, 3)).astype("uint8")
        Image.fromarray(noise).save(folder / f"{number}.png")
    (folder / "3.png").write_bytes(b"nothing")
    return folder


def build(model, folder, directory, **more):
    return ImageIndex.build(
        model, folder, directory, batch_size=2, max_skipped_share=0.5, **more
    )


def contents(directory):
    return [(directory / name).read_bytes() for name in (INDEX, IMAGES, VECTORS)]


class Stopped(BaseException):
    """What a kill looks like from inside."""


def count_embedded(monkeypatch, stop_after=None):
    """Counts images that are embedded; raises when there are `stop_after`."""
    embedded = []
    embed = building.embed_images

    def watched(model, images, batch_size):
        if stop_after is not None and len(embedded) >= stop_after:
            raise Stopped
        embedded.extend(images)
        return embed(model, images, batch_size)

    monkeypatch.setattr(building, "embed_images", watched)
    return embedded


def test_a_stopped_build_goes_on_and_ends_the_same(
    model, folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(building, "PART_IMAGES", 2)
    never_stopped = build(model, folder, tmp_path / "a")
    with monkeypatch.context() as patch:
        count_embedded(patch, stop_after=4)
        with pytest.raises(Stopped):
            build(model, folder, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    with monkeypatch.context() as patch:
        embedded = count_embedded(patch)
        went_on = build(model, folder, tmp_path / "b")
    assert (went_on.num_resumed, len(embedded)) == (4, 4)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert went_on.report == never_stopped.report
    assert went_on.report.names == [str(folder / "3.png")]
    assert not parts_of(tmp_path / "b").exists()


def test_parts_of_something_else_are_never_used(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "PART_IMAGES", 2)

    def stop():
        with monkeypatch.context() as patch:
            count_embedded(patch, stop_after=4)
            with pytest.raises(Stopped):
                build(model, folder, tmp_path / "index")
        assert parts_of(tmp_path / "index").is_dir()

    stop()
    other = build(perturb(core(), seed=9), folder, tmp_path / "index")
    assert other.num_resumed == 0
    stop()
    converter = PEImageConverter(32, resize_mode="center_crop")
    assert build(model, folder, tmp_path / "index", image_converter=converter)
    stop()
    Image.new("RGB", (9, 9)).save(folder / "0.png")
    assert build(model, folder, tmp_path / "index").num_resumed == 0


def test_a_damaged_part_is_made_again(model, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(building, "PART_IMAGES", 2)
    build(model, folder, tmp_path / "a")
    with monkeypatch.context() as patch:
        count_embedded(patch, stop_after=6)
        with pytest.raises(Stopped):
            build(model, folder, tmp_path / "b")
    second = sorted(parts_of(tmp_path / "b").glob("part_*"))[1]
    with np.load(second) as file:
        vectors = file["vectors"].tobytes()
    data = bytearray(second.read_bytes())
    data[data.index(vectors)] ^= 1
    second.write_bytes(data)
    assert build(model, folder, tmp_path / "b").num_resumed == 2
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_an_update_embeds_what_is_new_or_changed(model, folder, tmp_path, monkeypatch):
    build(model, folder, tmp_path / "updated")
    (folder / "1.png").unlink()
    Image.new("RGB", (9, 9), "red").save(folder / "2.png")
    Image.new("RGB", (9, 9), "blue").save(folder / "01.png")
    with monkeypatch.context() as patch:
        embedded = count_embedded(patch)
        index = build(model, folder, tmp_path / "updated", update=True)
    assert index.num_unchanged == 6
    assert len(embedded) == 2
    anew = build(model, folder, tmp_path / "anew")
    assert [path.name for path in index.paths] == [path.name for path in anew.paths]
    np.testing.assert_allclose(index.vectors, anew.vectors, atol=1e-6)
    assert index.report == anew.report
    # Nothing to do: no image that can be read is read.
    with monkeypatch.context() as patch:
        embedded = count_embedded(patch)
        assert build(model, folder, tmp_path / "updated", update=True).num_unchanged
    assert embedded == []


def test_an_update_needs_the_same_model_and_converter(model, folder, tmp_path):
    build(model, folder, tmp_path / "index", update=True)  # none there: all are new
    before = contents(tmp_path / "index")
    with pytest.raises(ValueError, match="made by another model"):
        build(perturb(core(), seed=9), folder, tmp_path / "index", update=True)
    converter = PEImageConverter(32, resize_mode="center_crop")
    with pytest.raises(ValueError, match="made by another image converter"):
        build(
            *(model, folder, tmp_path / "index"), image_converter=converter, update=True
        )
    assert contents(tmp_path / "index") == before
    assert sorted(os.listdir(tmp_path)) == ["images", "index"]


def test_two_builds_of_one_index(model, folder, tmp_path):
    with (
        only_writer(tmp_path / "index"),
        pytest.raises(TargetBusyError, match="by another process"),
    ):
        build(model, folder, tmp_path / "index")


def test_the_preset_is_remembered(model, folder, tmp_path):
    build(model, folder, tmp_path / "index", preset="cats")
    assert ImageIndex.open(tmp_path / "index").preset == "cats"


def test_nothing_that_can_be_read(model, tmp_path):
    (tmp_path / "a.png").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="None of the images could be read"):
        ImageIndex.build(
            model, tmp_path / "a.png", tmp_path / "index", max_skipped_share=1.0
        )
    assert os.listdir(tmp_path) == ["a.png"]
