"""Saves run checkpoints and is killed, or runs out of space, while it does.

It leaves Keras out, so that a process starts in a fraction of a second: the modules
under test need NumPy alone, once the `__init__` files above them are stepped around.
"""

import json
import os
import resource
import signal
import sys
import tempfile
import types
import warnings
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    root = Path(__file__).parents[3]
    for name in ("keras_pe", "keras_pe.training", "keras_pe.presets"):
        package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[name] = package

from keras_pe.training.run.checkpoint import (
    CheckpointError,
    RunCheckpoints,
)


def content(step, size=250_000, version=0):
    """Returns arrays that belong to one step, and its state."""
    arrays = {
        "weights": np.full(size, step, "float32"),
        "moments": np.arange(size // 2, dtype="float32") + step + version,
        "step": np.array(step, "int64"),
    }
    return arrays, {"step": step, "version": version}


def sound(arrays, state):
    """Whether arrays and state belong together, to the last element."""
    size = len(arrays["weights"])
    expected, _ = content(state["step"], size, state["version"])
    return set(arrays) == set(expected) and all(
        np.array_equal(arrays[k], expected[k]) for k in expected
    )


def loop(directory, first):
    """Saves for ever; says so after each."""
    checkpoints = RunCheckpoints(directory, keep=2)
    print("ready", flush=True)
    for step in range(int(first), 10**6):
        checkpoints.save(step, *content(step))
        print(f"saved {step}", flush=True)


def killed_at(event, checkpoints, step, version):
    """Saves in a child that dies at its n-th use of the file system.

    Returns:
        Whether it was killed; False once there are fewer events than that.
    """
    child = os.fork()
    if child == 0:
        seen = 0

        def count(kind, _):
            nonlocal seen
            if kind.split(".")[0] in ("open", "os", "shutil", "tempfile", "fcntl"):
                seen += 1
                if seen == event:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        checkpoints.save(step, *content(step, 1000, version))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


def everywhere(directory):
    """Kills a save at each of its file operations; prints what was found."""
    warnings.simplefilter("error")  # a fallback to an older one would warn
    found = []
    for kind, step in (("new", 4), ("replaced", 3)):
        event = 0
        while True:
            event += 1
            place = Path(directory) / f"{kind}_{event}"
            # keep=1 is the hardest: the only checkpoint must not be lost.
            checkpoints = RunCheckpoints(place, keep=1)
            checkpoints.save(3, *content(3, 1000))
            killed = killed_at(event, checkpoints, step, version=1)
            again = RunCheckpoints(place, keep=1)
            arrays, state = again.load()
            hidden = [p.name for p in place.iterdir() if p.name.startswith(".")]
            again.save(9, *content(9, 1000))
            found.append(
                {
                    "kind": kind,
                    "event": event,
                    "killed": killed,
                    "sound": sound(arrays, state),
                    "state": state,
                    "hidden": hidden,
                    "left": sorted(p.name for p in place.iterdir()),
                }
            )
            if not killed:
                break
    print(json.dumps(found))


def attempt(checkpoints, step):
    """Tries to save; returns the error and what is there now."""
    message = None
    try:
        checkpoints.save(step, *content(step))
    except CheckpointError as error:
        message = str(error)
    arrays, state = checkpoints.load()
    names = sorted(path.name for path in checkpoints.directory.iterdir())
    return {"error": message, "sound": sound(arrays, state), **state, "names": names}


def no_space(directory):
    """Saves where files can't grow past a size, as on a full disk, then can."""
    checkpoints = RunCheckpoints(directory)
    checkpoints.save(1, *content(1))
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    full = attempt(checkpoints, 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(json.dumps([full, attempt(checkpoints, 3)]))


def read_only():
    """Saves as a user who may read the directory but not write to it."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        place = Path(directory) / "run"
        RunCheckpoints(place).save(1, *content(1))
        place.chmod(0o555)
        child = os.fork()
        if child == 0:
            if os.geteuid() == 0:
                os.setuid(65534)
            print(json.dumps(attempt(RunCheckpoints(place), 2)), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        place.chmod(0o755)


if __name__ == "__main__":
    assert "keras" not in sys.modules
    {
        "loop": loop,
        "everywhere": everywhere,
        "no_space": no_space,
        "read_only": read_only,
    }[sys.argv[1]](*sys.argv[2:])
