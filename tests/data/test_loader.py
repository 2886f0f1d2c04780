"""The iterator of training, in threads: order, errors, stalls and fit."""

import inspect
import threading
import weakref

import grain
import keras
import numpy as np
import pytest

from keras_pe.data import (
    LoaderStalled,
    SkippedSamples,
    TooManySkipped,
    batches,
    fit_batches,
)
from keras_pe.data.augmentation import to_unit_range
from keras_pe.data.loader import _CHECK_EVERY
from tests.data.shards import StuckSource, numbers, open_shards, small_dataset

pytestmark = pytest.mark.quick


def reading_threads():
    return [t for t in threading.enumerate() if t.name == "keras_pe_reader"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(reading_threads())
    yield
    for thread in set(reading_threads()) - before:
        thread.join(timeout=5)
        assert not thread.is_alive()


@pytest.mark.parametrize("num_threads", [1, 2, 3, 6])
@pytest.mark.parametrize("prefetch", [1, 4])
def test_the_batches_do_not_depend_on_threads(tmp_path, num_threads, prefetch):
    dataset = small_dataset(open_shards(tmp_path, bad={4: "image"}), num_batches=9)
    report = SkippedSamples(max_bad_share=1)
    with batches(
        dataset, num_threads=num_threads, prefetch=prefetch, skip_report=report
    ) as loader:
        found = list(loader)
    assert len(found) == 9
    for i, batch in enumerate(found):
        expected = dataset[i]
        np.testing.assert_array_equal(batch["token_ids"], expected["token_ids"])
        np.testing.assert_array_equal(
            batch["images"], to_unit_range(expected["images"])
        )
        assert batch["images"].dtype == np.float32
        assert "skipped" not in batch
    skipped = [bad for i in range(9) for bad in dataset[i]["skipped"]]
    assert report.num_skipped == len(skipped) > 0
    assert report.num_samples == 9 * 6 + len(skipped)
    assert {bad.key for bad in report.named} == {"000004"}


def test_slices_and_bytes(tmp_path):
    dataset = small_dataset(open_shards(tmp_path), num_batches=9)
    with batches(dataset[6:], image_dtype="uint8") as loader:
        found = list(loader)
    assert len(found) == 3
    np.testing.assert_array_equal(found[2]["images"], dataset[8]["images"])
    assert next(loader, None) is None


def test_the_limit_of_the_dataset_is_kept(tmp_path):
    source = open_shards(tmp_path, bad=dict.fromkeys(range(4), "image"))
    dataset = small_dataset(source, max_bad_share=0.05)
    with (
        batches(dataset[1:]) as loader,
        pytest.raises(TooManySkipped, match=r"max_bad_share=0\.05"),
    ):
        list(loader)  # would never end
    assert loader.skip_report.num_samples < 130
    assert next(loader, None) is None  # closed


def test_an_error_in_a_thread_is_raised_in_its_turn(tmp_path):
    def transform(image, rng):
        raise ZeroDivisionError("mine")

    dataset = small_dataset(open_shards(tmp_path), transform=transform)
    with (
        pytest.raises(ZeroDivisionError, match="mine") as caught,
        batches(dataset, num_threads=2) as loader,
    ):
        next(loader)
    assert "In batch 0, row 0" in caught.value.__notes__[0]


@pytest.mark.parametrize("num_threads", [1, 2])
def test_a_stall_is_an_error_that_names_its_cause(tmp_path, num_threads):
    source = StuckSource(open_shards(tmp_path), stuck_at=3)
    released = threading.Event()
    wait = released.wait

    class Stuck(StuckSource):
        def __getitem__(self, number):
            if number == self.stuck_at:
                wait()
            return self.source[number]

    source = Stuck(source.source, stuck_at=3)
    dataset = small_dataset(source)
    stuck_batch = next(i for i in range(9) if 3 in dataset.order[i])
    row = dataset.order[stuck_batch].tolist().index(3)
    loader = batches(dataset, num_threads=num_threads, stall_timeout=0.3)
    with pytest.raises(LoaderStalled) as caught:
        list(loader)
    message = str(caught.value)
    for part in (
        "(stall_timeout=0.3)",
        f"thread {stuck_batch % num_threads} of {num_threads}",
        f"was reading row {row} of batch {stuck_batch}, sample 3, 000003 in {tmp_path}",
        repr(source),
        "wait()",  # where the thread is
    ):
        assert part in message
    assert next(loader, None) is None
    released.set()


def test_by_default_a_stall_is_an_error_within_a_minute():
    default = inspect.signature(batches).parameters["stall_timeout"].default
    assert default + _CHECK_EVERY < 60


def test_a_slow_batch_is_no_stall(tmp_path):
    """A batch may take longer than the timeout, as long as samples go on."""
    steps = threading.Semaphore(0)

    def transform(image, rng):
        steps.acquire(timeout=0.1)  # nobody releases it: a tenth of a second
        return np.zeros((1, 1, 3), "uint8")

    dataset = small_dataset(open_shards(tmp_path), batch_size=8, transform=transform)
    with batches(dataset, stall_timeout=0.4, prefetch=1) as loader:
        assert len(numbers(next(loader))) == 8


def test_closing_ends_the_threads_within_a_sample(tmp_path):
    dataset = small_dataset(open_shards(tmp_path), batch_size=20)
    loader = batches(dataset, num_threads=3)
    next(loader)
    loader.close()
    loader.close()
    assert next(loader, None) is None


def test_a_forgotten_loader_ends_its_threads(tmp_path):
    loader = batches(small_dataset(open_shards(tmp_path)), num_threads=2)
    next(loader)
    gone = weakref.ref(loader)
    del loader
    assert gone() is None  # and the fixture sees the threads end


def test_impossible_loaders(tmp_path):
    dataset = small_dataset(open_shards(tmp_path), num_batches=3)
    with pytest.raises(ValueError, match="3 batches for 4 workers"):
        batches(dataset, num_workers=4)
    with pytest.raises(ValueError, match="0 batches"):
        batches(dataset[3:])
    for options in (
        {"num_workers": -1},
        {"num_threads": 0},
        {"prefetch": 0},
    ):
        with pytest.raises(ValueError, match="expected at least"):
            batches(dataset, **options)
    for options in ({"stall_timeout": 0}, {"start_timeout": float("nan")}):
        with pytest.raises(ValueError, match="expected more than 0"):
            batches(dataset, **options)
    with pytest.raises(ValueError, match="image_dtype='int8'"):
        batches(dataset, image_dtype="int8")


def test_any_grain_dataset_of_dictionaries():
    dataset = grain.MapDataset.range(5).map(lambda n: {"x": np.full(2, n)})
    with batches(dataset, num_threads=2) as loader:
        assert [batch["x"].tolist() for batch in loader] == [[n, n] for n in range(5)]


class Recorder(keras.Model):
    """Sums images and ids, to see that fit gets every batch once and in order."""

    def __init__(self):
        super().__init__()
        self.scale = self.add_weight(shape=(), initializer="zeros", name="scale")

    def call(self, inputs):
        return self.scale * keras.ops.mean(inputs["images"])

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        return y_pred + keras.ops.mean(keras.ops.cast(x["token_ids"], "float32"))


def test_a_dataset_is_refused_before_fit_begins(tmp_path):
    dataset = small_dataset(open_shards(tmp_path))
    with pytest.raises(TypeError, match=r"fit_batches\(batches\(dataset\)\)"):
        fit_batches(dataset)


def test_fit_takes_the_batches_in_order(tmp_path):
    dataset = small_dataset(open_shards(tmp_path), num_batches=6)
    model = Recorder()
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False)
    losses = []
    log = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(float(logs["loss"]))
    )
    with batches(dataset) as loader:
        model.fit(
            fit_batches(loader),
            steps_per_epoch=3,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[log],
        )
    means = [dataset[i]["token_ids"].mean(dtype="float64") for i in range(6)]
    # Keras logs the mean over the epoch so far.
    expected = [np.mean(means[3 * (i // 3) : i + 1]) for i in range(6)]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
