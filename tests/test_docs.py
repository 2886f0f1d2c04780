"""What the documentation says can be done can be done: names, commands, examples."""

import ast
import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe.cli.main import build_parser

ROOT = Path(keras_pe.__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "recipes/**/*.md", "keras_pe/presets/*.md")
    for path in ROOT.glob(pattern)
)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(keras_pe.__path__, "keras_pe.")
    if ">>> " in Path(importlib.util.find_spec(module.name).origin).read_text("utf-8")
)
# Heavier than an example should be: the published sizes.
LARGE = ("gigantic", "large", "base")


def python_blocks(page):
    """Returns the code blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# === Names ===
@pytest.mark.quick
@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_names_exist(page):
    for block in python_blocks(page):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in (
                "keras_pe",
                "recipes",
            ):
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), ast.unparse(node)
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name.startswith("keras_pe.") and "(" not in name:
                found = keras_pe
                for part in name.split(".")[1:]:
                    found = getattr(found, part)


# === Commands ===
def commands():
    """Returns every `keras-pe` command line that a page shows."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        lines = re.findall(r"`keras-pe ([a-z][^`\n]*)`", text)
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            joined = block.replace("\\\n", " ")
            lines += re.findall(r"(?:^|&& )keras-pe ([a-z].*)$", joined, re.MULTILINE)
        found += [(page, line.split(" #")[0]) for line in lines]
    return found


@pytest.mark.quick
def test_commands_are_understood():
    lines = commands()
    assert len(lines) > 10
    for page, line in lines:
        try:
            build_parser().parse_args(shlex.split(line))
        except SystemExit:
            pytest.fail(f"{page}: keras-pe {line}")


@pytest.mark.quick
def test_recipes_exist():
    found = set()
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        found |= set(
            re.findall(
                r"python -m ((?:recipes|benchmarks|tests)[.\w]*\w)\b(?!\.)", text
            )
        )
    assert len(found) > 5
    for name in found:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


# === Examples ===
@pytest.mark.slow
@pytest.mark.skipif(
    keras.backend.backend() == "jax", reason="a minute of compilation, nothing new"
)
@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert not doctest.testmod(importlib.import_module(name)).failed


@pytest.mark.slow
@pytest.mark.skipif(keras.backend.backend() != "torch", reason="one backend is enough")
@pytest.mark.parametrize("page", ["docs/probing.md", "docs/detection.md"])
def test_blocks_run(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    namespace = {
        "pictures": list(rng.integers(0, 256, (30, 64, 64, 3)).astype("uint8")),
        "labels": np.arange(30) % 2,
    }
    ran = 0
    for block in python_blocks(page):
        if any(size in block for size in LARGE) or "backbone" in block:
            continue
        # A pattern of the labels: there is something to find.
        for picture, label in zip(
            namespace["pictures"], namespace["labels"], strict=True
        ):
            picture[:32] = 255 * label
        exec(compile(block, page, "exec"), namespace)
        ran += 1
    assert ran
