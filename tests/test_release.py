"""A release says the same everywhere: version, date, licence, how to cite."""

import io
import re
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

import keras_pe

pytestmark = [pytest.mark.quick, pytest.mark.once]
ROOT = Path(__file__).parents[1]
MOST_BYTES = 30_000_000
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))


def test_version_and_date_are_the_newest_of_the_changelog():
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    released = re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", text, re.M)
    version, date = released[0]
    assert keras_pe.__version__ == version
    assert str(CITATION["version"]) == version
    assert str(CITATION["date-released"]) == date
    assert released == sorted(released, reverse=True)


def test_the_version_stands_in_one_place():
    assert PROJECT["dynamic"] == ["version"]
    assert "version" not in PROJECT
    lines = (ROOT / "keras_pe/version.py").read_text("utf-8").splitlines()
    assert lines[-1] == f'__version__ = "{keras_pe.__version__}"'


def test_the_wheel_stays_below_30_megabytes():
    """As hatchling packs it: deflate at zlib's own level."""
    files = [
        path
        for path in (ROOT / "keras_pe").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path in files:
            wheel.write(path, path.relative_to(ROOT))
    size = len(packed.getbuffer()) + 50_000  # what is said of the package
    assert size < MOST_BYTES, f"{size:,} bytes"


def test_what_the_index_is_told():
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    assert (ROOT / "LICENSE").is_file()
    classifiers = PROJECT["classifiers"]
    # With the expression above, PyPI refuses classifiers of licences.
    assert not [name for name in classifiers if name.startswith("License ::")]
    versions = [
        name.rsplit(" ", 1)[1]
        for name in classifiers
        if re.search(r"Python :: 3\.\d+$", name)
    ]
    assert PROJECT["requires-python"] == f">={versions[0]}"
    assert versions == ["3.11", "3.12", "3.13"]
    assert "Typing :: Typed" in classifiers
    assert (ROOT / "keras_pe/py.typed").is_file()


def test_the_paper_is_cited():
    assert CITATION["cff-version"] == "1.2.0"
    paper = CITATION["preferred-citation"]
    assert paper["authors"][0] == {"family-names": "Bolya", "given-names": "Daniel"}
    assert paper["url"] in PROJECT["urls"].values()
    assert paper["year"] == 2025
    for key in ("message", "title", "authors", "license", "repository-code"):
        assert CITATION[key]
