"""How much a user writes: the shortest program of a peer for a wish, and ours.

Run:      python -m benchmarks.shortest_uses --peers python   (of an environment with
          keras_pe, transformers, sentence-transformers, timm, open_clip_torch and
          keras-hub; without a torchvision that fits it, see peers/torchvision_import)
Expect:   a line a program, results/shortest_uses.json and, with --table, Markdown; ten
          minutes on one core.

Programs are in peers/uses, a folder a wish: what a user has to type, in the style of
each project's own documentation. Each is run in a fresh process and an empty folder
with small data and small models (peers/local_models): a program that fails is no
program. Lines are counted as ruff formats them, blank ones and comments not, and
steps: statements, imports too, or commands of a shell. Seconds are of the whole
process; models differ, so that they say nothing of speed.
"""

import argparse
import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).parents[1]
USES = REPOSITORY / "benchmarks" / "peers" / "uses"
RESULTS = REPOSITORY / "benchmarks" / "results" / "shortest_uses.json"
WISHES = {
    "name_pictures": "Name a picture by words of my choice",
    "vectors": "Vectors of pictures and texts, and how alike they are",
    "search_a_folder": "Search a folder of pictures by text",
    "train_a_classifier": "Train a classifier on a folder, use it, save it",
    "train_on_pairs": "Fine-tune on pairs of a CSV",
    "scikit_learn": "A step of scikit-learn",
    "architecture_without_weights": "An architecture without weights, of another size",
    "list_models": "Which models there are",
    "export_onnx": "An ONNX file that was compared with the model",
}
PEERS = {
    "transformers": "transformers",
    "sentence_transformers": "sentence-transformers",
    "keras_hub": "keras-hub",
    "open_clip": "open_clip_torch",
    "timm": "timm",
}
# What runs before a program of Python: torchvision is let in where it has no build.
SHIM = (
    "import runpy, sys; sys.path.insert(0, {root!r});"
    "from benchmarks.peers import torchvision_import as shim;"
    "shim.declare_missing_operators(); sys.path.pop(0);"
)


def lines_of(path: Path) -> int:
    """Returns how many lines of a program are neither blank nor a comment."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def steps_of(path: Path) -> int:
    """Returns how many statements a program has, or commands."""
    text = path.read_text()
    if path.suffix == ".py":
        return sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(text)))
    return len(text.replace("\\\n", " ").strip().splitlines())


def command(path: Path, python: str, folder: Path) -> list[str]:
    """Returns how a program is run by an interpreter."""
    shim = SHIM.format(root=str(REPOSITORY))
    if path.suffix == ".py":
        run = f"runpy.run_path({str(path)!r}, run_name='__main__')"
        return [python, "-c", shim + run]
    # The same environment under the names that a shell knows.
    tools = folder / ".tools"
    tools.mkdir(exist_ok=True)
    module = (
        f'exec {python} -c "{shim} sys.argv = sys.argv[1:]; '
        "runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)\""
    )
    # `python -m module ...` and `keras-pe ...`.
    (tools / "python").write_text(f'#!/bin/sh\nshift\n{module} "$@"\n')
    (tools / "keras-pe").write_text(f'#!/bin/sh\n{module} keras_pe.cli.main "$@"\n')
    for tool in ("python", "keras-pe"):
        (tools / tool).chmod(0o755)
    return ["bash", "-e", str(path)]


def run(path: Path, python: str, models: Path) -> dict[str, Any]:
    """Runs a program in a folder of its own; returns its seconds and last words.

    Raises:
        RuntimeError: with what it printed, if it failed.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "run")
        shutil.copytree(models, folder)
        environment = {
            **os.environ,
            "PATH": f"{folder / '.tools'}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "KERAS_BACKEND": "torch",
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        begun = time.monotonic()
        found = subprocess.run(
            command(path, python, folder),
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
    if found.returncode:
        raise RuntimeError(f"{path} failed:\n{found.stdout[-3000:]}")
    return {
        "seconds": round(time.monotonic() - begun, 1),
        "printed": found.stdout.strip().splitlines()[-1:],
    }


def measure(python: str, wishes: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields each wish and what its programs were found to be, once they have run."""
    with tempfile.TemporaryDirectory() as models:
        prepare = SHIM.format(root=str(REPOSITORY)) + (
            "runpy.run_module('benchmarks.peers.local_models', run_name='__main__')"
        )
        environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
        environment |= {"KERAS_BACKEND": "torch", "HF_HUB_OFFLINE": "1"}
        subprocess.run([python, "-c", prepare], cwd=models, env=environment, check=True)
        for wish in wishes:
            paths = sorted((USES / wish).iterdir(), key=lambda one: one.stem == "ours")
            found = {path.stem: run(path, python, Path(models)) for path in paths}
            print(f"{wish}: {found}", flush=True)
            yield wish, found


def versions(python: str) -> dict[str, str]:
    """Returns the versions of the peers that an interpreter has."""
    asked = (
        "from importlib.metadata import version\n"
        f"for name in {list(PEERS.values())}: print(version(name))"
    )
    said = subprocess.run(
        [python, "-c", asked], capture_output=True, text=True, check=True
    )
    return dict(zip(PEERS.values(), said.stdout.split(), strict=True))


def table(content: dict[str, Any]) -> str:
    """Returns the lines as Markdown."""
    rows = ["| wish | peer | its lines (steps) | ours |", "|---|---|---|---|"]
    for wish, programs in content["programs"].items():
        (peer,) = programs.keys() - {"ours"}
        named = f"{PEERS[peer]} {content['versions'][PEERS[peer]]}"
        paths = [next((USES / wish).glob(f"{who}.*")) for who in (peer, "ours")]
        cells = [f"{lines_of(path)} ({steps_of(path)})" for path in paths]
        rows.append(f"| {WISHES[wish]} | {named} | {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    """Runs what is asked for, or prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--peers", default=sys.executable, help="their interpreter")
    parser.add_argument("--only", nargs="+", choices=WISHES, default=list(WISHES))
    parser.add_argument("--table", action="store_true", help="print what is there")
    options = parser.parse_args()
    content = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.table:
        programs = content.get("programs", {})
        content = {"keras_pe": version("keras-pe"), "versions": versions(options.peers)}
        for wish, found in measure(options.peers, options.only):
            programs[wish] = found
            ordered = {each: programs[each] for each in WISHES if each in programs}
            text = json.dumps({**content, "programs": ordered}, indent=1)
            RESULTS.write_text(text + "\n")  # what has run is kept
        content = json.loads(RESULTS.read_text())
    print(table(content))


if __name__ == "__main__":
    main()
