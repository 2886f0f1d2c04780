"""Fingerprints change with what they stand for, and with nothing else."""

import io

import numpy as np
import pytest
from keras import ops
from PIL import Image

from keras_pe import PECore
from keras_pe.evaluation.hashes import data_hash, weights_hash
from tests.small_models import perturb, text_encoder, vision_encoder

pytestmark = pytest.mark.slow
# Of the model below on every backend. It changes with the format or with that model.
EXPECTED = "62eb046cc68f6cc95b84b8a9f45299e78fe71a65eab5d17d8261889ea7835579"


def test_weights():
    model = perturb(PECore(vision_encoder(), text_encoder()))
    assert weights_hash(model) == EXPECTED
    bias = model.text_encoder.trainable_variables[-1]
    value = np.array(bias)
    value.flat[0] += 1e-3
    bias.assign(value)
    assert weights_hash(model) != EXPECTED


def test_models_of_other_names_and_dtypes():
    towers = [
        perturb(vision_encoder(num_layers=1, dtype=dtype, name=name))
        for dtype, name in (("float32", "a"), ("float32", "b"), ("bfloat16", "a"))
    ]
    hashes = [weights_hash(tower) for tower in towers]
    assert hashes[0] == hashes[1] != hashes[2]


class Lazy:
    filename = "a.png"

    def __init__(self, content):
        self.content = content

    def read(self):
        return self.content


def test_data(tmp_path):
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    a.write_bytes(b"one")
    b.write_bytes(b"two")
    both = data_hash([a, b], [0, 1])
    moved = tmp_path / "elsewhere" / "a.png"
    moved.parent.mkdir()
    moved.write_bytes(b"one")
    assert data_hash([moved, str(b)], np.array([0, 1])) == both
    assert data_hash([b"one", Lazy(b"two")], [0, 1]) == both
    others = [
        data_hash([b, a], [0, 1]),
        data_hash([a, b], [1, 0]),
        data_hash([a, b], [0, 1], contents=False),
        data_hash([a], [0, 1]),
        data_hash([a, tmp_path / "missing"], [0, 1]),
        data_hash([b"onetwo"], [0, 1]),
    ]
    b.write_bytes(b"two!")
    others.append(data_hash([a, b], [0, 1]))
    assert len({both, *others}) == 8


def test_names_and_sizes_miss_a_replaced_file(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    named, full = data_hash([path], [], False), data_hash([path], [])
    path.write_bytes(b"two")
    assert data_hash([path], [], False) == named
    assert data_hash([path], []) != full


def test_images_in_memory_and_folders_of_frames(tmp_path):
    array = np.zeros((4, 4, 3), "uint8")
    assert data_hash([array], []) == data_hash([Image.fromarray(array)], [])
    assert data_hash([array], []) != data_hash([array.reshape(2, 8, 3)], [])
    assert data_hash([[array, array]], []) != data_hash([array, array], [])
    (tmp_path / "0.png").write_bytes(b"one")
    one = data_hash([tmp_path], [])
    (tmp_path / "1.png").write_bytes(b"two")
    assert data_hash([tmp_path], []) != one
    with pytest.raises(TypeError, match="no form in JSON"):
        data_hash([], [object()])


def test_open_files_and_what_can_not_be_read(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"one")
    with path.open("rb") as file:
        file.read()  # wherever it stands
        assert data_hash([file], []) == data_hash([b"one"], []) == data_hash([path], [])
    assert data_hash([io.BytesIO(b"one")], []) == data_hash([b"one"], [])
    whole = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), "uint8")
    Image.fromarray(noise).save(whole, "PNG")
    broken = Image.open(io.BytesIO(whole.getvalue()[:1000]))
    for sample in (file, io.StringIO("text"), None, iter([1]), {}, broken):
        assert data_hash([sample], []) == data_hash([tmp_path / "missing"], [])


def test_tensors_are_the_arrays_that_they_hold():
    array = np.linspace(0, 1, 48, dtype="float32").reshape(4, 4, 3)
    assert data_hash([ops.convert_to_tensor(array)], []) == data_hash([array], [])
    half = ops.cast(array, "bfloat16")
    rounded = ops.convert_to_numpy(ops.cast(half, "float32"))
    assert data_hash([half], []) == data_hash([rounded], [])


def test_the_colours_of_a_palette_count():
    image = Image.fromarray(np.zeros((2, 2), "uint8")).convert("P")
    other = image.copy()
    other.putpalette([200, 10, 10] + 255 * [0, 0, 0])
    assert np.array_equal(np.asarray(image), np.asarray(other))
    assert data_hash([image], [0]) != data_hash([other], [0])
    assert data_hash([other], [0]) == data_hash([other.copy()], [0])
    clear = other.copy()
    clear.info["transparency"] = 0
    assert data_hash([clear], [0]) != data_hash([other], [0])
