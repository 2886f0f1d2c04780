"""One set of images in every form it may come in is one set of images."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_pe import PEImageConverter
from keras_pe.finetuning.given_data import ImageList, read_given
from keras_pe.finetuning.image_streams import ImageStream
from keras_pe.preprocessing.image_errors import ImageError

pytestmark = [pytest.mark.quick, pytest.mark.once]
NAMES = ["sea horse", "owl"]
CONVERTER = PEImageConverter(8)
IMAGES = np.random.default_rng(0).integers(0, 256, (7, 8, 8, 3), "uint8")
LABELS = np.array([0, 1, 1, 0, 1, 0, 0])
IMAGES[0, 0, 0] = 0, 128, 255  # the first batch tells what its numbers span
EXPECTED = CONVERTER(list(IMAGES))


def read(data, labels=None, batch_size=3, **options):
    """Returns all images and labels, and the sizes of the batches."""
    given = read_given(data, labels, NAMES, **options)
    found = list(given.batches(CONVERTER, batch_size))
    again = list(given.batches(CONVERTER, batch_size))  # as another epoch does
    for one, other in zip(found, again, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    images, labels = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return images, labels, [len(part) for part, _ in found]


def check(*arguments, tolerance=0.0, **options):
    images, labels, sizes = read(*arguments, **options)
    np.testing.assert_allclose(images, EXPECTED, atol=tolerance)
    assert images.dtype == "float32"
    assert labels.tolist() == LABELS.tolist()
    assert sizes == [3, 3, 1]


def test_images_and_labels():
    names = [NAMES[label] for label in LABELS]
    check(list(IMAGES), names)
    check((IMAGES, LABELS))
    check((list(IMAGES), np.eye(2)[LABELS]))


@pytest.fixture
def files(tmp_path):
    paths = []
    for number, (image, label) in enumerate(zip(IMAGES, LABELS, strict=True)):
        folder = tmp_path / "data" / ("sea_horse", "owl")[label]
        folder.mkdir(parents=True, exist_ok=True)
        paths.append(folder / f"{number}.png")
        Image.fromarray(image).save(paths[-1])
    return paths


def test_paths(files):
    check(files, LABELS)
    check((list(map(str, files)), LABELS))


def test_a_folder(files):
    images, labels, _ = read(files[0].parents[1])
    order = np.argsort(1 - LABELS, kind="stable")  # "owl" comes first
    np.testing.assert_array_equal(images, EXPECTED[order])
    assert labels.tolist() == LABELS[order].tolist()
    underscored = read_given(files[0].parents[1], None, ["owl", "sea_horse"])
    assert underscored.labels.tolist() == (1 - LABELS[order]).tolist()
    with pytest.raises(ValueError, match="has a folder for 'sea horse', which is none"):
        read_given(files[0].parents[1], None, ["owl", "cat"])
    with pytest.raises(FileNotFoundError):
        read_given(files[0].parents[2] / "none", None, NAMES)


def test_folders_that_differ_by_an_underscore(tmp_path):
    for name in ("sea_horse", "sea horse"):
        (tmp_path / name).mkdir()
        Image.fromarray(IMAGES[0]).save(tmp_path / name / "1.png")
    for names in (["sea_horse", "sea horse"], NAMES):
        with pytest.raises(ValueError, match="'sea horse' would be two classes"):
            read_given(tmp_path, None, names)


def test_a_table(files):
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency")
    names = [NAMES[label] for label in LABELS]
    table = pandas.DataFrame({"path": map(str, files), "label": names, "weight": 1.0})
    check(table)
    renamed = table.rename(columns={"path": "where", "label": "what"})
    check(renamed, columns=("where", "what"))
    with pytest.raises(ValueError, match=r"images\? The table has where, what"):
        read_given(renamed, None, NAMES)
    with pytest.raises(ValueError, match="has no column 'place'"):
        read_given(table, None, NAMES, columns=("place", "label"))
    with pytest.raises(ValueError, match="2 are there"):
        read_given(table.assign(file="a"), None, NAMES)
    for columns in ("path", ("path",), ("path", "label", "weight")):
        with pytest.raises(ValueError, match="expected two names, of the images"):
            read_given(table, None, NAMES, columns=columns)
    check(table.rename(columns={"path": 0, "label": 1}), columns=(0, 1))
    twice = table.rename(columns={"weight": "label"})
    with pytest.raises(ValueError, match="more than one column 'label'"):
        read_given(twice, None, NAMES, columns=("path", "label"))
    with pytest.raises(TypeError, match="A table came with labels beside it"):
        read_given(table, LABELS, NAMES)
    missing = table.assign(label=[*names[:-1], None])
    with pytest.raises(ValueError, match=r"labels\[6\] is (None|nan)"):
        read_given(missing, None, NAMES)


# === Streams ===
def in_batches(images, labels, size=2):
    def batches():
        for start in range(0, len(images), size):
            yield images[start : start + size], labels[start : start + size]

    return batches


@pytest.mark.parametrize(
    ("images", "tolerance"),
    [
        (IMAGES, 0),
        (IMAGES.astype("int64"), 0),
        (IMAGES.astype("float32"), 0),  # as Keras' readers give them
        (IMAGES / 255, 0),
        (EXPECTED, 0),  # prepared
        (np.moveaxis(IMAGES / 255, -1, 1), 0),  # as torchvision does
    ],
)
def test_what_numbers_span(images, tolerance):
    check(in_batches(images, LABELS), tolerance=tolerance)
    one_by_one = [(image, label) for image, label in zip(images, LABELS, strict=True)]
    if images.shape[-1] == 3:
        check(one_by_one, tolerance=tolerance, value_range=None)


def test_a_later_batch_that_contradicts():
    images = np.concatenate([IMAGES[:2] / 255, EXPECTED[2:]])
    with pytest.raises(ValueError, match=r"Batch 1 has images from -.* where 0 to 1"):
        read(in_batches(images, LABELS))
    check(in_batches(EXPECTED, LABELS), value_range=(-1, 1))
    with pytest.raises(ValueError, match="Batch 0 has images from -1"):
        read(in_batches(EXPECTED, LABELS), value_range=(0, 255))
    with pytest.raises(ValueError, match=r"value_range=.*expected one of"):
        read(in_batches(EXPECTED, LABELS), value_range=(0, 2))
    with pytest.raises(ValueError, match="nan"):
        read(in_batches(IMAGES * np.nan, LABELS))


def test_other_sizes_are_resized():
    large = np.repeat(np.repeat(IMAGES, 2, 1), 2, 2)
    expected = CONVERTER(list(large))
    images, _, _ = read(in_batches(large.astype("float32"), LABELS))
    np.testing.assert_array_equal(images, expected)
    images, _, _ = read(in_batches(large / 127.5 - 1, LABELS))
    np.testing.assert_allclose(images, expected, atol=0.02)  # of eight bits


def test_paths_in_batches(files):
    check(in_batches(list(map(str, files)), LABELS))
    check(in_batches(np.array([str(path).encode() for path in files], object), LABELS))


def test_batches_without_images():
    empty = IMAGES[:0] / 255, LABELS[:0]
    batches = [empty, (IMAGES / 255, LABELS), empty]
    check(lambda: batches)


def test_what_is_no_source():
    with pytest.raises(TypeError, match=r"returned None \(NoneType\)"):
        read(lambda: None)
    with pytest.raises(ValueError, match="value_range=5: expected one of"):
        read_given(list, None, NAMES, value_range=5)


def test_dictionaries():
    check(
        [
            {"image": image, "label": label}
            for image, label in zip(IMAGES, LABELS, strict=True)
        ]
    )
    with pytest.raises(ValueError, match="Batch 0 has picture, expected one of image"):
        read([{"picture": 1}])


def test_tf_data():
    tf = pytest.importorskip("tensorflow", reason="TensorFlow is one of the backends")
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS))
    check(dataset.batch(4))
    check(dataset)
    with pytest.raises(ValueError, match=r"has no end. Leave out `repeat"):
        read(dataset.batch(4).repeat())


def test_data_loader():
    torch = pytest.importorskip("torch", reason="PyTorch is one of the backends")
    data = torch.utils.data.TensorDataset(
        torch.from_numpy(np.moveaxis(IMAGES / 255, -1, 1)), torch.from_numpy(LABELS)
    )
    check(torch.utils.data.DataLoader(data, batch_size=4))


def test_grain():
    grain = pytest.importorskip("grain", reason="grain comes with the train extra")
    pairs = [{"image": i, "label": n} for i, n in zip(IMAGES, LABELS, strict=True)]
    check(grain.MapDataset.source(pairs).batch(4))
    check(grain.MapDataset.source(pairs).to_iter_dataset())
    sampler = grain.samplers.IndexSampler(
        7, num_epochs=1, shuffle=False, shard_options=grain.sharding.NoSharding()
    )
    check(grain.DataLoader(data_source=pairs, sampler=sampler))


def test_py_dataset():
    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, number):
            rows = slice(2 * number, 2 * number + 2)
            return IMAGES[rows], LABELS[rows]

    check(Batches())


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (list(IMAGES), TypeError, "Images came without labels"),
        (IMAGES, TypeError, "Images came without labels"),
        (iter([(IMAGES, LABELS)]), TypeError, "gives its batches once"),
        (3, TypeError, "Got a int"),
        ((IMAGES, LABELS[:3]), ValueError, "7 images and 3 labels"),
        (([], []), ValueError, "There are no images"),
    ],
)
def test_what_is_no_data(data, error, message):
    with pytest.raises(error, match=message):
        read_given(data, None, NAMES)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ((IMAGES, LABELS[:3]), "Batch 0 has 7 images and 3 labels"),
        ((IMAGES, LABELS + 1), r"Batch 0: labels\[1\] is 2"),
        ((IMAGES, LABELS, LABELS), "Batch 0 is a tuple of 3"),
        ((IMAGES.astype("int64") * 2, LABELS), "int64 from 0 to 510"),
        ((IMAGES, LABELS * np.nan), r"Batch 0: labels\[0\] is nan"),
    ],
)
def test_what_is_no_batch(batch, message):
    with pytest.raises(ValueError, match=message):
        read(lambda: [batch])


def test_a_bad_file_stops_it(files):
    files[3].write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"3\.png"):
        read(files, LABELS)


def test_kinds():
    assert isinstance(read_given((IMAGES, LABELS), None, NAMES), ImageList)
    assert isinstance(read_given(list, None, NAMES), ImageStream)
    some = read_given((list(IMAGES), LABELS), None, NAMES).rows(np.array([4, 1]))
    np.testing.assert_array_equal(some.images, IMAGES[[4, 1]])
    assert some.labels.tolist() == LABELS[[4, 1]].tolist()
