"""Checkpoints of a training run that survive a kill at any instant."""

import contextlib
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.files import sync
from keras_pe.presets.report import CheckpointError
from keras_pe.training.run.saved_tensors import (
    checked_state,
    read_files,
    write_files,
)
from keras_pe.training.run.state import collect, restore

__all__ = ["RunCheckpoints", "collect", "restore"]

NAME = re.compile(r"step_(\d{9,})")
# What a kill can leave behind. None of these names is ever taken for a checkpoint.
SAVING = ".saving_"
REPLACED = ".replaced_"
DELETING = ".deleting_"


class RunCheckpoints:
    """Writes, finds and reads the checkpoints of one run.

    Each is a directory `step_000001234` with `variables.safetensors` and `state.json`.
    It is written under another name, flushed to the disk and then renamed, so whatever
    has this name is whole. Older ones are deleted after that, again under another
    name. Both files carry a SHA-256. Nothing is ever unpickled.

    One process writes; any number may read meanwhile. With arrays sharded over several
    hosts, save on one host what `process_allgather` returned: a host can only write
    what it sees.

    Args:
        directory: where the checkpoints are; made at the first save.
        keep: how many to keep, of the steps up to the last one saved; None for all.

    Raises:
        ValueError: if `keep` is below 1.

    Example:
        >>> import numpy as np, tempfile
        >>> checkpoints = RunCheckpoints(tempfile.mkdtemp(), keep=2)
        >>> for step in (10, 20, 30):
        ...     path = checkpoints.save(step, {"w": np.full(2, step)}, {"epoch": 1})
        >>> checkpoints.latest().name
        'step_000000030'
        >>> arrays, state = checkpoints.load()
        >>> arrays["w"].tolist(), state
        ([30, 30], {'step': 30, 'epoch': 1})
    """

    def __init__(self, directory: str | os.PathLike[str], keep: int | None = 3) -> None:
        if keep is not None and keep < 1:
            raise ValueError(f"keep={keep}: expected 1 or more, or None for all.")
        self.directory = Path(directory).expanduser().resolve()
        self.keep = keep
        if self.directory.is_dir():
            with _writer(self.directory, wait=False) as alone:
                if alone:
                    self._clean()

    def save(
        self,
        step: int,
        variables: Mapping[str, Any],
        state: Mapping[str, Any] | None = None,
    ) -> Path:
        """Writes a checkpoint, then deletes those beyond `keep`.

        Tensors are copied to the host one at a time.

        Args:
            step: steps done; names the checkpoint. An older checkpoint of the same
                step is replaced.
            variables: what `collect` returns, or arrays by name.
            state: what else a resume needs; JSON values. `load` gives it back with
                `step` in it.

        Returns:
            The directory of the checkpoint.

        Raises:
            CheckpointError: if it can't be written. Older checkpoints are intact.
            ValueError: if step or state can't be stored.
        """
        if isinstance(step, bool) or int(step) != step or step < 0:
            raise ValueError(f"step={step!r}: expected a whole number, 0 or more.")
        step = int(step)
        content = checked_state({"step": step, **(state or {})})
        if content["step"] != step:
            raise ValueError(
                f"state says step {content['step']} and the checkpoint is of step "
                f"{step}. Give one number, or leave it out of state."
            )
        target = self.directory / f"step_{step:09d}"
        try:
            self._make_directory()
            with _writer(self.directory):
                self._clean()
                self._write(target, step, variables, content)
                self._prune(step)
        except OSError as error:
            newest = self.latest()
            raise CheckpointError(
                f"Checkpoint {target} could not be written: {error}. Older "
                f"checkpoints are intact; the newest is "
                f"{newest.name if newest else 'none'}. Free some space or give a "
                f"directory that can be written to, then go on from there."
            ) from error
        return target

    def latest(self) -> Path | None:
        """Returns the checkpoint of the highest step, None if there is none."""
        checkpoints = self._all()
        return checkpoints[-1] if checkpoints else None

    def load(
        self, path: str | os.PathLike[str] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Reads a checkpoint; by default the newest that is sound.

        Args:
            path: a checkpoint. None takes the newest and, should that be damaged, the
                one before, with a warning.

        Returns:
            Arrays by name, and the state, in which `step` is.

        Raises:
            CheckpointError: if there is no checkpoint, or none is sound.
        """
        if path is not None:
            return read_files(Path(path))
        found = self._all()
        for candidate in reversed(found):
            try:
                return read_files(candidate)
            except CheckpointError as error:
                warnings.warn(
                    f"Checkpoint {candidate.name} is passed over: {error}",
                    stacklevel=2,
                )
        raise CheckpointError(
            f"{self.directory} holds no checkpoint"
            + (f" that is sound; {len(found)} are damaged." if found else ".")
        )

    def _all(self) -> list[Path]:
        """Returns all checkpoints, the oldest step first."""
        if not self.directory.is_dir():
            return []
        named = [
            (int(match[1]), path)
            for path in self.directory.iterdir()
            if (match := NAME.fullmatch(path.name))
        ]
        return [path for _, path in sorted(named)]

    def _make_directory(self) -> None:
        if not self.directory.is_dir():
            self.directory.mkdir(parents=True, exist_ok=True)
            sync(self.directory.parent)

    def _write(
        self,
        target: Path,
        step: int,
        variables: Mapping[str, Any],
        state: dict[str, Any],
    ) -> None:
        aside = Path(tempfile.mkdtemp(prefix=SAVING, dir=self.directory))
        try:
            aside.chmod(0o755)  # mkdtemp makes it private
            write_files(aside, step, variables, state)
            if target.exists():
                # A directory with files can't be renamed over. Killed between the
                # renames, the old one gets its name back from `_clean`.
                old = self.directory / (REPLACED + target.name)
                target.rename(old)
                try:
                    aside.rename(target)
                except OSError:
                    old.rename(target)
                    raise
                shutil.rmtree(old, ignore_errors=True)
            else:
                aside.rename(target)
            sync(self.directory)
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    def _prune(self, step: int) -> None:
        """Deletes what is beyond `keep`; leaves steps after this one alone.

        Those belong to a run that went further and that somebody went back from.
        """
        if self.keep is None:
            return
        before = [p for p in self._all() if int(p.name.removeprefix("step_")) <= step]
        for path in before[: -self.keep]:
            trash = self.directory / (DELETING + path.name)
            # The new checkpoint is in place: a failure here is no failure to save.
            with contextlib.suppress(OSError):
                path.rename(trash)
                shutil.rmtree(trash)

    def _clean(self) -> None:
        """Removes what killed processes left; needs to be the only writer."""
        for path in list(self.directory.iterdir()):
            if path.name.startswith((SAVING, DELETING)):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.startswith(REPLACED):
                target = self.directory / path.name.removeprefix(REPLACED)
                if target.exists():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    with contextlib.suppress(OSError):
                        path.rename(target)


@contextlib.contextmanager
def _writer(directory: Path, wait: bool = True) -> Iterator[bool]:
    """Keeps other processes from writing; yields whether this one may.

    The system drops the lock of a process that dies. Where a file system has no locks,
    a process that wants to save is taken to be the only one.
    """
    if sys.platform == "win32":
        yield wait
        return
    import fcntl

    descriptor = os.open(directory, os.O_RDONLY)
    try:
        alone = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            alone = False
        except OSError:  # no locks here: write, but clean up after nobody
            alone = wait
        yield alone
    finally:
        os.close(descriptor)
