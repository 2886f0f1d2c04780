"""The files of the Space are what Hugging Face reads, and fit the package."""

import ast
import importlib
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from notebooks.cells import REPOSITORY

pytestmark = [pytest.mark.quick, pytest.mark.once]
ROOT = Path(__file__).parents[2]
SPACE = ROOT / "deploy" / "space"
# https://huggingface.co/docs/hub/spaces-config-reference
COLOURS = ("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
KNOWN = {
    *("title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "app_file"),
    *("python_version", "pinned", "license", "short_description"),
}


@pytest.fixture(scope="module")
def header():
    """What stands between the first two lines of dashes."""
    text = (SPACE / "README.md").read_text("utf-8")
    found = re.match(r"---\n(.*?)\n---\n", text, re.DOTALL)
    return yaml.safe_load(found[1])


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]


def version(text):
    return tuple(map(int, text.split(".")))


def test_the_header_is_one_of_a_space(header):
    assert set(header) <= KNOWN
    assert header["sdk"] == "gradio"
    assert {header["colorFrom"], header["colorTo"]} <= set(COLOURS)
    assert len(header["short_description"]) <= 60
    assert len(header["emoji"]) == 1
    assert header["license"] == "apache-2.0"
    assert (SPACE / header["app_file"]).is_file()


def test_the_header_fits_the_package(header, project):
    (bound,) = (
        requirement.removeprefix("gradio>=")
        for requirement in project["optional-dependencies"]["app"]
        if requirement.startswith("gradio")
    )
    assert version(header["sdk_version"]) >= version(bound)
    least = project["requires-python"].removeprefix(">=")
    assert version(header["python_version"]) >= version(least)


def test_what_is_installed_is_there(project):
    lines = (SPACE / "requirements.txt").read_text("utf-8").splitlines()
    (line,) = (line for line in lines if not line.startswith("--"))
    found = re.fullmatch(r"([\w-]+)\[([\w,]+)\] @ git\+https://github\.com/(\S+)", line)
    assert found[1] == project["name"]
    assert set(found[2].split(",")) <= set(project["optional-dependencies"])
    assert found[3] == REPOSITORY


def test_the_program_names_what_exists():
    tree = ast.parse((SPACE / "app.py").read_text("utf-8"))
    names = [
        (node.module, name.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    ]
    assert names == [("keras_pe.app", "load_settings"), ("keras_pe.app", "serve")]
    for module, name in names:
        assert callable(getattr(importlib.import_module(module), name))
