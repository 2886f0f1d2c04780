"""What earlier versions stored is read as they would have read it themselves."""

import json
import os
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.data import TarShards
from keras_pe.preprocessing.prompts import known_classes
from keras_pe.presets import CheckpointError
from keras_pe.presets.checksums import read_metadata
from keras_pe.presets.class_vectors import read_class_vectors
from keras_pe.search import ImageIndex
from tests.formats.write import CONFIG, TEXTS, inputs, train, write_images

VERSIONS = ("8ccd54a", "v0")
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(params=VERSIONS, scope="module")
def stored(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with zipfile.ZipFile(Path(__file__).parent / f"{request.param}.zip") as file:
        file.extractall(folder)
    return folder


def outputs(folder):
    with np.load(folder / "outputs.npz") as file:
        return dict(file)


def test_the_files_are_small():
    sizes = [path.stat().st_size for path in Path(__file__).parent.glob("*.zip")]
    assert len(sizes) >= len(VERSIONS)
    assert sum(sizes) < 200_000


def test_presets(stored):
    expected = outputs(stored)
    model = PECore.from_preset(stored / "preset")
    tokenizer = PETokenizer.from_preset(stored / "preset")
    converter = PEImageConverter.from_preset(stored / "preset")
    ids = tokenizer(list(TEXTS))
    np.testing.assert_array_equal(ids, expected["ids"])
    np.testing.assert_allclose(
        model.encode_image(inputs()), expected["images"], **CLOSE
    )
    np.testing.assert_allclose(model.encode_text(ids), expected["texts"], **CLOSE)
    assert converter.image_size == (16, 16)
    assert converter.resize_mode == "center_crop"
    white = np.full((20, 30, 3), 255, "uint8")
    np.testing.assert_allclose(
        converter([white])[0, 0, 0],
        (1 - np.array([0.4, 0.5, 0.6])) / np.array([0.2, 0.3, 0.4]),
        rtol=1e-6,
    )


def test_runs_go_on_to_the_same_end(stored, tmp_path):
    expected = outputs(stored)
    for name in ("run", "shards"):
        shutil.copytree(stored / name, tmp_path / name)
    if keras.backend.backend() == "tensorflow":  # counts steps in int64, PyTorch not
        with pytest.raises(CheckpointError, match="same Keras backend"):
            train(tmp_path, resume=True)
        return
    before = (tmp_path / "run" / "steps.csv").read_text()
    model = train(tmp_path, resume=True)
    after = (tmp_path / "run" / "steps.csv").read_text()
    assert after.startswith(before)  # what it did already is not done again
    assert len(after.splitlines()) == 1 + CONFIG.samples // CONFIG.batch_size
    # Steps of optimisation on another backend, from the same checkpoint.
    close = {"rtol": 0, "atol": 2e-4}
    images = model.encode_image(inputs())
    np.testing.assert_allclose(images, expected["images"], **close)
    texts = model.encode_text(expected["ids"])
    np.testing.assert_allclose(texts, expected["texts"], **close)


def test_shards_and_their_indexes(stored, tmp_path):
    shards = shutil.copytree(stored / "shards", tmp_path / "shards")
    opened = TarShards(str(shards / "shard-{000..001}.tar"))
    assert len(opened) == 9
    assert opened[7]["txt"] == b"picture number 7"


def test_stored_shard_indexes_are_used(tmp_path):
    with zipfile.ZipFile(Path(__file__).parent / "v0.zip") as file:
        file.extractall(tmp_path)
    shard = tmp_path / "shards" / "shard-000.tar"
    stored = tmp_path / "shards" / "shard-000.tar.index.json"
    content = stored.read_bytes()
    written = int(json.loads(content)["shard"].rpartition(" ")[2])
    os.utime(shard, ns=(written, written))
    TarShards(str(shard))[0]
    assert stored.read_bytes() == content  # another time of change: written anew
    os.utime(shard, ns=(written + 1, written + 1))
    TarShards(str(shard))[0]
    assert stored.read_bytes() != content


def test_image_indexes_and_vectors_of_classes(tmp_path):
    with zipfile.ZipFile(Path(__file__).parent / "v0.zip") as file:
        file.extractall(tmp_path)
    expected = outputs(tmp_path)
    write_images(tmp_path / "images")
    model = PECore.from_preset(tmp_path / "preset")
    converter = PEImageConverter.from_preset(tmp_path / "preset")
    index = ImageIndex.open(tmp_path / "index")
    index.check_model(model)
    for number in range(3):
        path = tmp_path / "images" / f"{number}.png"
        best = index.search(index.query_image(model, path, converter))[0]
        assert Path(best.path).name == path.name
        assert best.similarity == pytest.approx(1.0, abs=1e-5)
    metadata = read_metadata(tmp_path / "preset")
    known = known_classes(metadata)
    assert known is not None
    vectors = read_class_vectors(tmp_path / "preset", metadata, *known)
    assert vectors is not None
    np.testing.assert_allclose(vectors, expected["classes"], rtol=0, atol=2e-3)
