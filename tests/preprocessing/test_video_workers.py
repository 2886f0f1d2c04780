"""Videos decoded in processes: the result of one process, and nothing left behind."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from keras_pe.preprocessing import PEVideoConverter, VideoError

sys.path.insert(0, str(Path(__file__).parent))
from odd_videos import encode, greys

pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.once]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Paths and bytes of sound files, a damaged one, frames in memory."""
    folder = tmp_path_factory.mktemp("videos")
    paths = []
    for number in range(3):
        path = folder / f"{number}.mp4"
        path.write_bytes(encode(greys(12)[number:], "mp4", "libx264", g="4"))
        paths.append(path)
    damaged = folder / "damaged.mp4"
    damaged.write_bytes(paths[0].read_bytes()[:-900])
    content = paths[1].read_bytes()
    return [paths[0], content, damaged, greys(9), str(paths[2]), bytearray(content)]


def test_processes_give_what_one_gives(videos, capsys):
    converter = PEVideoConverter(16, 4, "time", on_error="skip", end=0.8)
    with pytest.warns(UserWarning, match="1 of 5 images skipped") as warned:
        right = converter([v for v in videos if not isinstance(v, np.ndarray)])
    report = converter.last_report
    with pytest.warns(UserWarning, match="1 of 5 images skipped") as also_warned:
        found = converter(
            [v for v in videos if not isinstance(v, np.ndarray)],
            workers=2,
            progress=True,
        )
    np.testing.assert_array_equal(found, right)
    assert converter.last_report == report
    assert [(skipped.index, report.num_images) for skipped in report.skipped] == [
        (2, 5)
    ]
    assert "5/5" in capsys.readouterr().out
    for warnings in (warned, also_warned):
        assert warnings[0].filename == __file__


def test_the_first_error_is_raised_and_no_process_is_left(videos):
    converter = PEVideoConverter(16, 4)
    with pytest.raises(VideoError) as right:
        converter(videos)
    with open(videos[0], "rb") as file, pytest.raises(VideoError) as found:
        converter([file, videos[3], *videos], workers=2)
    assert str(found.value) == str(right.value)
    assert not [c for c in psutil.Process().children() if "spawn_main" in c.cmdline()]


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "2"])
def test_bad_numbers_of_processes(wrong):
    with pytest.raises(ValueError, match="workers="):
        PEVideoConverter(16, 4)(np.stack(greys(4)), workers=wrong)


PROGRAM = """
    import os, signal, sys
    from keras_pe.preprocessing import PEVideoConverter

    class Slow(PEVideoConverter):
        def convert(self, video, name=None, **clip):
            with open(f"{video}.began", "w") as file:
                file.write(str(os.getpid()))
            if sys.argv[2:] == ["die"]:
                os._exit(3)
            while True:  # a file that never ends
                super().convert(video, name, **clip)

    if __name__ == "__main__":
        # Where the tests run in the background, shells have it ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            Slow(16, 4)([sys.argv[1]] * 2, workers=1)
        except KeyboardInterrupt:
            print("interrupted")
        except RuntimeError as error:
            print(error)
"""


def started(tmp_path, content, *more):
    video = tmp_path / "a.mp4"
    video.write_bytes(content)
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    process = subprocess.Popen(
        [sys.executable, program, video, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    began = Path(f"{video}.began")
    while process.poll() is None and not (began.exists() and began.read_text()):
        time.sleep(0.05)
    return process, began


def test_an_interrupted_program_leaves_no_process(tmp_path, videos):
    process, began = started(tmp_path, videos[1])
    worker = psutil.Process(int(began.read_text()))
    process.send_signal(signal.SIGINT)
    try:
        output, errors = process.communicate(timeout=120)
    finally:
        process.kill()
    assert output == "interrupted\n"
    assert "Traceback" not in errors
    assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


def test_a_killed_program_leaves_no_process(tmp_path, videos):
    process, began = started(tmp_path, videos[1])
    worker = psutil.Process(int(began.read_text()))
    process.kill()
    process.communicate(timeout=60)
    psutil.wait_procs([worker], timeout=60)
    assert not worker.is_running()


def test_a_process_that_dies_is_named(tmp_path, videos):
    process, _ = started(tmp_path, videos[1], "die")
    output, _ = process.communicate(timeout=120)
    assert "ended without a word, before" in output
    assert "a.mp4 was done" in output
