"""Presets that a wheel packs tighter: the same numbers, vectors and checksums."""

import struct
import time

import h5py
import numpy as np
import pytest

import keras_pe
from keras_pe.models.preset_parts import load_parts
from keras_pe.presets import CheckpointError
from keras_pe.presets.checksums import read_metadata, verify_file
from keras_pe.presets.class_vectors import CLASS_VECTORS, read_class_vectors
from projects.emoji.byte_planes import packed_bytes, store_by_planes, write_by_planes
from projects.emoji.evaluation import Score
from projects.emoji.preset import as_metadata, score_rows
from projects.emoji.rounded_preset import Embedded, renewed_card, save_rounded
from projects.emoji.rounding import rounded
from tests.presets import tiny

pytestmark = [pytest.mark.quick, pytest.mark.once]
CLASSES = ["an owl", "a pizza", "a rocket"]


@pytest.fixture
def preset(tmp_path):
    """A preset that knows three names."""
    zero_shot = {"class_names": CLASSES, "templates": ["{}", "a drawing of {}"]}
    tiny.core().save_to_preset(
        tmp_path / "cats",
        tokenizer=tiny.tokenizer(),
        image_converter=keras_pe.PEImageConverter(32),
        metadata={"zero_shot": zero_shot, "scores": {"before": 1}},
        dtype="float16",
    )
    return tmp_path / "cats"


def known(preset):
    metadata = read_metadata(preset)
    return metadata, read_class_vectors(
        preset, metadata, *metadata["zero_shot"].values()
    )


def test_a_preset_is_stored_anew_with_all_that_belongs_to_it(preset):
    before, vectors = known(preset)
    weights = tiny.values(keras_pe.PECore.from_preset(preset))
    size = packed_bytes(preset / "model.weights.h5")
    saved = store_by_planes(preset)
    assert saved == size - packed_bytes(preset / "model.weights.h5") > 0
    after, same = known(preset)
    np.testing.assert_array_equal(same, vectors)  # also: their key is right
    changed = {"files", "metadata_sha256"}
    assert {k: v for k, v in before.items() if k not in changed} == {
        k: v for k, v in after.items() if k not in changed
    }
    assert set(after["files"]) == {path.name for path in preset.iterdir()} - {
        "metadata.json"
    }
    for name in after["files"]:
        verify_file(preset, name, after)
    assert tiny.equal(tiny.values(keras_pe.PECore.from_preset(preset)), weights)
    stored = (preset / "model.weights.h5").read_bytes()
    assert store_by_planes(preset) == 0  # it was so already
    assert (preset / "model.weights.h5").read_bytes() == stored


def test_a_file_does_not_say_when_it_was_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/inner/x"] = np.ones((2, 3), "float32")
    write_by_planes(tmp_path / "a.h5", tmp_path / "b.h5")
    content, now = (tmp_path / "b.h5").read_bytes(), int(time.time())
    for second in range(now - 600, now + 2):
        assert struct.pack("<I", second) not in content


def test_attributes_and_scalars_are_kept(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.attrs["layout"] = "one"
        file["group/x"] = np.arange(6, dtype="float32").reshape(2, 3)
        file["group/x"].attrs["dtype"] = "float32"
        file["scalar"] = np.float32(2.5)
        file["group"].attrs["name"] = "dense"
    write_by_planes(tmp_path / "a.h5", tmp_path / "b.h5")
    with h5py.File(tmp_path / "b.h5") as file:
        assert file.attrs["layout"] == "one"
        assert file["group"].attrs["name"] == "dense"
        assert file["group/x"].attrs["dtype"] == "float32"
        assert file["group/x"][()].tolist() == [[0, 1, 2], [3, 4, 5]]
        assert file["scalar"][()] == 2.5
    with pytest.raises(OSError, match="exists"):
        write_by_planes(tmp_path / "a.h5", tmp_path / "b.h5")


def test_a_damaged_preset_is_left_alone(preset):
    path = preset / "model.weights.h5"
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged"):
        store_by_planes(preset)
    assert path.read_bytes() == content
    assert [each.name for each in preset.parent.iterdir()] == ["cats"]


# === Rounded ===
def test_weights_are_rounded_and_vectors_are_theirs(preset):
    before = tiny.values(keras_pe.PECore.from_preset(preset))
    _, vectors = known(preset)
    save_rounded(load_parts(preset), preset, 4, {"after": 2})
    parts = load_parts(preset)
    for new, old in zip(tiny.values(parts.model), before, strict=True):
        np.testing.assert_array_equal(new, rounded(old, 4))
    assert parts.metadata["scores"] == {"after": 2}
    assert parts.metadata["dtype"] == "float16"
    assert CLASS_VECTORS in parts.metadata["files"]
    new = parts.class_matrix
    assert new is not None
    assert 0 < np.abs(new - vectors).max() < 0.2  # made anew
    fresh = parts.model.encode_text(parts.tokenizer(CLASSES))
    assert np.sum(np.asarray(fresh) * new, axis=1).min() > 0.7


def test_recall_counts_names_that_find_their_image():
    images = np.eye(3, dtype="float32")
    assert Embedded(images, images).recall() == 1
    swapped = images[[1, 0, 2]]
    assert Embedded(images, swapped).recall() == pytest.approx(1 / 3)
    assert Embedded(images, np.ones((3, 3), "float32")).recall() == 0  # ties


# === The card ===
def scores(top1):
    found = Score(images=10, classes=20, top1=(top1, 0.1, 0.9), top5=(0.5, 0.4, 0.6))
    names = ("unseen vendor", "3-D rendition", "photographs")
    return {name: {"all": found} for name in names}


def card(top1, stored="Stored as float16."):
    rows = "\n".join(score_rows(scores(top1)))
    floor = "| unseen vendor, pixel nearest neighbour (cropped) | 1 | 1 | 37.1 | 54 | |"
    return f"# pe_core_x\n\n## Architecture\n1 parameter. {stored}\n\n{rows}\n{floor}\n"


def test_a_card_gets_the_new_results_and_keeps_the_rest():
    found = renewed_card(card(0.25), scores(0.75), 8)
    assert "| unseen vendor, all | 10 | 20 | 75.0 [10.0, 90.0] |" in found
    assert "25.0" not in found
    assert "value: 75.0" in found
    assert "pixel nearest neighbour (cropped) | 1 | 1 | 37.1 | 54 | |" in found
    assert "of whose fraction 8 bits are kept; the results below" in found
    assert renewed_card(found, scores(0.75), 8) == found
    assert as_metadata(scores(0.75))["photographs"]["all"]["top1"][0] == 0.75


def test_a_card_without_a_place_is_refused():
    with pytest.raises(ValueError, match=r"0 rows '\| photographs, all', expected 1"):
        renewed_card(card(0.25).replace("| photographs", "| pictures"), scores(0.5), 8)
    with pytest.raises(ValueError, match="0 times how it is stored"):
        renewed_card(card(0.25, "float16."), scores(0.5), 8)
