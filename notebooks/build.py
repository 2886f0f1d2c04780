"""Makes the notebooks from their sources: `python -m notebooks.build --execute`.

A source is a Python file in percent format, in `sources/`. Badges and the cell that
installs are added here. Without --execute the outputs that a notebook has are kept,
which only works if its code is unchanged; so outputs are always those of the code
above them.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

from notebooks.cells import BACKENDS, HERE, names, notebook, path_of, read_source
from notebooks.outputs import clean, faults

ROOT = HERE.parent
LONGEST = 1800  # seconds of a cell, on a machine that does other things too


class BuildError(Exception):
    """A notebook can't be made."""


def execute(node: NotebookNode, backend: str) -> tuple[float, float]:
    """Runs all cells in a fresh kernel; returns the seconds, and those of CPU time.

    Args:
        node: given its outputs in place.
        backend: of Keras.

    Raises:
        CellExecutionError: of nbclient, with the traceback, if a cell fails.
    """
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONPATH": os.pathsep.join(paths),
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JUPYTER_PLATFORM_DIRS": "1",
    }
    client = NotebookClient(
        node,
        timeout=LONGEST,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(HERE)}},
    )
    begun, used = time.monotonic(), _cpu_seconds()
    client.execute(env=environment)
    return time.monotonic() - begun, _cpu_seconds() - used


def _cpu_seconds() -> float:
    """Returns the CPU time of all processes that were started and have ended."""
    times = os.times()
    return times.children_user + times.children_system


def build(name: str, execute_on: str | None = None) -> NotebookNode:
    """Returns the notebook of a source, with outputs.

    Args:
        name: of the source.
        execute_on: backend that makes new outputs; None keeps those that are there.

    Raises:
        BuildError: if outputs are missing or not fit to be committed.
    """
    source = read_source(name)
    node = notebook(source)
    if execute_on is None:
        _take_outputs(node, path_of(name))
    else:
        if execute_on not in source.backends:
            raise BuildError(
                f"{name} runs on {', '.join(source.backends)}, not on {execute_on}."
            )
        try:
            seconds, cpu_seconds = execute(node, execute_on)
        except CellExecutionError as error:
            raise BuildError(f"{name} does not run on {execute_on}: {error}") from error
        for text in clean(node):
            print(f"{name}, left out (stderr): {text.strip()}", file=sys.stderr)
        print(
            f"{name}: {seconds:.0f} seconds on {execute_on}, {cpu_seconds:.0f} of CPU",
            flush=True,
        )
    found = faults(node, ROOT)
    if found:
        raise BuildError(f"{name} " + f"\n{name} ".join(found))
    return node


def _take_outputs(node: NotebookNode, path: Path) -> None:
    """Gives a notebook the outputs of the one on disk, if the code is the same."""
    code = [cell for cell in node.cells if cell.cell_type == "code"]
    old = nbformat.read(path, as_version=4).cells if path.exists() else []
    old = [cell for cell in old if cell.cell_type == "code"]
    if [cell.source for cell in code] != [cell.source for cell in old]:
        raise BuildError(
            f"The code of {path.stem} has changed since it was run: add --execute."
        )
    for cell, before in zip(code, old, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count


def chosen(given: Sequence[str]) -> list[str]:
    """Returns the sources that are meant: by name, or by what it begins with.

    Raises:
        BuildError: if a name means none.
    """
    found = []
    for name in given:
        meant = [known for known in names() if known.startswith(name)]
        if not meant:
            raise BuildError(f"{name!r} is none of {', '.join(names())}.")
        found += meant
    return found or names()


def main(arguments: Sequence[str] | None = None) -> int:
    """Builds what the command line asks for; returns 1 if a notebook can't be made."""
    parser = argparse.ArgumentParser(
        prog="python -m notebooks.build", description=__doc__
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all without any")
    parser.add_argument("--execute", action="store_true", help="make new outputs")
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    options = parser.parse_args(arguments)
    try:
        for name in chosen(options.names):
            node = build(name, options.backend if options.execute else None)
            path_of(name).write_text(nbformat.writes(node) + "\n", "utf-8")
    except BuildError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
