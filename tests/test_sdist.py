"""A source distribution has what its tests import and read, and extras have code."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

pytestmark = [pytest.mark.quick, pytest.mark.once]
ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
FOLDERS = (
    "keras_pe",
    "recipes",
    "projects",
    "notebooks",
    "benchmarks",
    "docs",
    "tests",
)


def imported(folder):
    """Returns the first names of all modules that a folder's files import."""
    found = set()
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found |= {name.name.split(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.split(".")[0])
    return found


def test_the_source_distribution_has_what_its_tests_import():
    shipped = PROJECT["tool"]["hatch"]["build"]["targets"]["sdist"]["include"]
    ours = imported("tests") & set(FOLDERS)
    assert {"keras_pe", "recipes", "projects", "notebooks"} <= ours
    # The pages that tests/test_docs.py reads.
    assert {*ours, "docs", "README.md", "CONTRIBUTING.md"} <= set(shipped)
    assert all((ROOT / name).exists() for name in shipped)


def test_every_extra_has_code():
    names = {
        "tensorflow-metadata": "tensorflow_metadata",
        "fonttools": "fontTools",
        "myst-parser": "myst_parser",
        "scikit-learn": "sklearn",
        # TensorBoard reads what training writes; nothing imports it. The others are
        # imported by a name in a text, where a file asks for them.
        **dict.fromkeys(
            (
                "tensorboard",
                "gguf",
                "keras-hub",
                "onnxruntime",
                "openvino",
                "ipykernel",  # what nbclient starts
            )
        ),
    }
    used = set().union(*(imported(folder) for folder in FOLDERS[:4]))
    used |= imported("docs")
    # What Sphinx is told by name.
    used |= set(
        re.findall(r'"(myst_parser|furo)"', (ROOT / "docs/conf.py").read_text())
    )
    for extra, requirements in PROJECT["project"]["optional-dependencies"].items():
        if extra == "test":
            continue
        packages = [requirement.split(">=")[0] for requirement in requirements]
        modules = [names.get(package, package) for package in packages]
        unused = {module for module in modules if module} - used
        assert not unused, extra
