"""Alignments that are finished: those of a folder of runs that left a preset."""

import re
from pathlib import Path


def finished_runs(runs: Path, example: str) -> dict[str, dict[int, Path]]:
    """Returns the presets of a folder of runs, by configuration and seed.

    Args:
        runs: a folder with a folder for each run, its configuration and seed as name.
        example: of such a name, for the message.

    Raises:
        ValueError: if there is none.
    """
    found: dict[str, dict[int, Path]] = {}
    for path in sorted(runs.glob("*-[0-9]/preset")):
        matched = re.fullmatch(r"(.+)-(\d+)", path.parent.name)
        assert matched is not None
        found.setdefault(matched[1], {})[int(matched[2])] = path
    if not found:
        raise ValueError(
            f"{runs} holds no finished alignment: expected folders such as {example} "
            "with a preset each, as an align.py of projects.emoji leaves them."
        )
    return found
