"""Loading in processes: the same batches, and none left behind whatever happens."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import psutil
import pytest

from keras_pe.data import LoaderStalled, SkippedSamples, batches
from keras_pe.data.workers import StartWatch
from tests.data.shards import StuckSource, open_shards, same_batch, small_dataset

pytestmark = [pytest.mark.slow, pytest.mark.once]


def workers():
    """The reading processes of this one."""
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "resource_tracker" not in command(child)]


def command(process):
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


@pytest.fixture(autouse=True)
def _no_process_is_left(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")  # loads in half the time
    yield
    assert not psutil.wait_procs(workers(), timeout=5)[1]


def test_the_batches_do_not_depend_on_workers(tmp_path):
    source = open_shards(tmp_path, bad={4: "image", 13: "caption"})

    def extras(batch, rng):
        return {"mask": rng.random((6, 3))}

    dataset = small_dataset(source, num_batches=8, extras=extras)
    report = SkippedSamples(max_bad_share=1)
    with batches(
        dataset, num_workers=2, image_dtype="uint8", skip_report=report
    ) as loader:
        found = list(loader)
    assert len(found) == 8
    skipped = []
    for i, batch in enumerate(found):
        expected = dataset[i]
        skipped += expected.pop("skipped")
        assert same_batch(batch, expected)
        # No view of shared memory, which would live as long as the batch.
        assert all(type(array) is np.ndarray for array in batch.values())
        assert all(array.base is None for array in batch.values())
    assert report.num_skipped == len(skipped) > 0
    assert report.named == list({bad.number: bad for bad in skipped}.values())


def test_a_stalled_process_is_named_and_killed(tmp_path):
    source = StuckSource(open_shards(tmp_path), stuck_at=3)
    dataset = small_dataset(source, num_batches=10)
    stuck = next(i for i in range(10) if 3 in dataset.order[i])
    row = dataset.order[stuck].tolist().index(3)
    with (
        batches(dataset, num_workers=1, stall_timeout=1.0) as loader,
        pytest.raises(LoaderStalled) as caught,
    ):
        list(loader)
    message = str(caught.value)
    assert (
        f"process 0 of 1, which was reading row {row} of batch {stuck}, sample 3, "
        f"000003 in {tmp_path}"
    ) in message
    assert repr(source) in message


def test_a_process_that_does_not_start_in_time_is_named(tmp_path):
    dataset = small_dataset(open_shards(tmp_path), num_batches=4)
    limits = {"stall_timeout": 0.1, "start_timeout": 0.1}  # less than any import
    with (
        batches(dataset, num_workers=1, **limits) as loader,
        pytest.raises(LoaderStalled, match="process 0 of 1, which has not started"),
    ):
        next(loader)


def until_over(watch, started=()):
    """Waits for a watch; returns the seconds of the clock that it took."""
    began = time.monotonic()
    while not watch.is_over(started):
        assert time.monotonic() - began < 60
    return time.monotonic() - began


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_a_starting_process_is_judged_by_what_it_computes():
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=compute_for_ever, daemon=True)
    process.start()
    try:
        until_over(StartWatch(1.0))
        times = psutil.Process(process.pid).cpu_times()
        assert times.user + times.system > 0.95
        # One that is stopped computes nothing: the clock decides.
        os.kill(process.pid, signal.SIGSTOP)
        watch = StartWatch(0.2 + times.user + times.system)
        assert until_over(watch) > 0.2
        # Those that have started are not looked at.
        assert not StartWatch(0.5).is_over([process.pid])
    finally:
        process.kill()
        process.join()


def compute_for_ever():
    while True:
        pass


def test_a_process_that_is_killed_is_an_error(tmp_path):
    source = StuckSource(open_shards(tmp_path), stuck_at=3, then="die")
    dataset = small_dataset(source, num_batches=10)
    with (
        pytest.raises(RuntimeError, match="exit code -9") as caught,
        batches(dataset, num_workers=1) as loader,
    ):
        list(loader)
    assert "sample 3, 000003 in" in "".join(caught.value.__notes__)


SCRIPT = """
    import json, os, signal, sys, time
    import psutil
    from keras_pe.data import TarShards, batches
    from tests.data.shards import small_dataset

    if __name__ == "__main__":
        # What a shell starts in the background ignores Ctrl-C, and passes that on.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        dataset = small_dataset(TarShards(sys.argv[1]))
        loader = batches(dataset, num_workers=1)
        next(loader)
        children = psutil.Process().children(recursive=True)
        print(json.dumps([child.pid for child in children]), flush=True)
        for batch in loader:
            if sys.argv[2] == "error":
                raise KeyError("of the training loop")
"""


@pytest.mark.parametrize("end", ["error", "SIGINT", "SIGKILL"])
def test_nothing_outlives_the_program(tmp_path, end):
    """However training ends, its processes are gone within five seconds."""
    open_shards(tmp_path)
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    path = os.pathsep.join([os.getcwd(), *sys.path])
    program = subprocess.Popen(
        [sys.executable, script, str(tmp_path / "shard-*.tar"), end],
        env={**os.environ, "PYTHONPATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        running = [psutil.Process(pid) for pid in json.loads(program.stdout.readline())]
        assert running
        if end != "error":
            program.send_signal(getattr(signal, end))
        _, errors = program.communicate(timeout=120)
    finally:
        program.kill()
    _, alive = psutil.wait_procs(running, timeout=5)
    assert not alive
    if end == "error":
        assert "of the training loop" in errors
        assert program.returncode == 1
    elif end == "SIGINT":
        assert "KeyboardInterrupt" in errors
        # The workers leave the talking to their parent.
        assert errors.count("Traceback") == 1, errors
    else:
        assert program.returncode == -getattr(signal, end)


def test_memory_does_not_grow(tmp_path):
    """50 epochs in threads: at most a megabyte an epoch, in fact nothing."""
    source = open_shards(tmp_path)
    order_epochs, batches_an_epoch = 50, 10
    dataset = small_dataset(
        source,
        batch_size=20,
        num_batches=order_epochs * batches_an_epoch,
        transform=lambda image, rng: np.asarray(image.convert("RGB").resize((96, 96))),
    )
    process = psutil.Process()
    sizes = []
    with batches(dataset, num_threads=2) as loader:
        for i, _ in enumerate(loader):
            if i % batches_an_epoch == batches_an_epoch - 1:
                sizes.append(process.memory_info().rss / 2**20)
    slope = np.polyfit(np.arange(40), sizes[10:], 1)[0]
    assert slope < 0.2
