"""Standard output of any encoding, full or closed; names of files with any byte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from keras_pe.cli.output import printable

pytestmark = [pytest.mark.quick, pytest.mark.once]
# Imports what prints, not Keras: the table of the presets is Python's own.
COMMAND = [sys.executable, "-m", "keras_pe.cli.main"]


def run(*arguments, **more):
    """Runs a command in a process of its own."""
    more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
    return subprocess.run([*COMMAND, *arguments], check=False, **more)


def test_names_are_escaped():
    name = os.fsdecode(b"caf\xe9 \x1b[31m\n") + "\u3000日本 \u202e"
    assert printable(name) == "caf\\xe9 \\x1b[31m\\n\u3000日本 \\u202e"
    assert printable(Path("owl.png")) == "owl.png"


def test_the_table_of_presets_needs_no_keras():
    code = (
        "import sys; from keras_pe.cli.main import main; main(['presets']); "
        "sys.exit(len({'keras', 'jax', 'torch', 'tensorflow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert "PE-Core-G14-448" in done.stdout
    assert done.returncode == 0


def test_help_and_version_need_no_keras():
    code = (
        "import sys; from keras_pe.cli.main import build_parser; build_parser(); "
        "print({'keras', 'numpy', 'rich', 'PIL', 'jax', 'torch'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"
    done = run("--version")
    assert done.returncode == 0
    assert done.stdout.startswith(b"keras-pe ")


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_is_an_error_of_one_line():
    for arguments in (["presets"], ["presets", "--json"]):
        with open("/dev/full", "wb") as full:
            done = run(*arguments, stdout=full)
        assert done.returncode == 1
        # A backend may have logged before.
        assert done.stderr.strip().splitlines()[-1] == (
            b"keras-pe: [Errno 28] No space left on device"
        )


@pytest.mark.slow
def test_a_closed_pipe_is_no_error():
    with subprocess.Popen(
        [*COMMAND, "presets", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.close()
        errors = process.stderr.read()
        assert process.wait() == 0
    assert b"Traceback" not in errors
    assert b"BrokenPipe" not in errors


def test_a_closed_standard_output_is_an_error():
    closed = ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, "--version"]
    done = subprocess.run(closed, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"standard output is closed" in done.stderr


@pytest.mark.slow
def test_an_ascii_terminal_gets_everything():
    # NumPy: loads in half the time, and nothing is computed.
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "KERAS_BACKEND": "numpy"}
    done = run("classify", "caf\udce9\u732b.png", env=environment)
    assert done.returncode == 1
    assert b"keras-pe: No such image or folder: caf\\xe9\\u732b" in done.stderr
    done = run("presets", env=environment)
    assert done.returncode == 0
    done.stdout.decode("ascii")


def test_warnings_are_shown_in_a_line():
    code = (
        "import warnings\n"
        "from keras_pe.cli.main import plain_warnings\n"
        "with plain_warnings():\n"
        "    warnings.warn('1 of 3 texts\\ndo not \\x1b[31mfit')\n"
        "    warnings.warn_explicit('old', FutureWarning, 'library.py', 7)\n"
        "warnings.warn('outside')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    ours, theirs, outside = done.stderr.splitlines()
    assert ours == "keras-pe: warning: 1 of 3 texts do not \\x1b[31mfit"
    assert theirs == "library.py:7: FutureWarning: old"
    assert outside.endswith("UserWarning: outside")
