"""The documentation site builds without a warning, whole, and from this disk alone."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_pe

pytestmark = [pytest.mark.slow, pytest.mark.once]
ROOT = Path(keras_pe.__file__).parents[1]
# What a browser fetches when it shows a page; links to click on are not among these.
FETCHED = re.compile(
    r"<(?:script|img|iframe)[^>]*\ssrc=\"(?:https?:)?//"
    r"|<link[^>]*rel=\"(?:stylesheet|preload|preconnect|icon)\"[^>]*href=\"(?:https?:)?//"
    r"|@import|url\(['\"]?(?:https?:)?//"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; warnings are errors."""
    pytest.importorskip("sphinx", reason='pip install "keras-pe[docs]"')
    folder = tmp_path_factory.mktemp("site")
    environment = {
        **os.environ,
        "KERAS_BACKEND": "torch",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT),
    }
    command = f"-m sphinx -q -W --keep-going -b html {ROOT / 'docs'} {folder}"
    done = subprocess.run(
        [sys.executable, *command.split()],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


def test_every_public_name_is_described_and_found(site):
    """In the pages, and in the index that the browser searches."""
    from sphinx.util.inventory import InventoryFile

    inventory = InventoryFile.loads((site / "objects.inv").read_bytes(), uri="").data
    described = set().union(
        *(set(names) for kind, names in inventory.items() if kind.startswith("py:"))
    )
    here = set(keras_pe._PACKAGES)
    if importlib.util.find_spec("keras_hub") is None:
        here.remove("kerashub")
    packages = [keras_pe, *(getattr(keras_pe, name) for name in sorted(here))]
    packages = [package for package in packages if hasattr(package, "__all__")]
    places = [(package, name) for package in packages for name in package.__all__]
    for package, name in places:  # a name may be described where another package has it
        value = getattr(package, name)
        paths = {f"{p.__name__}.{n}" for p, n in places if getattr(p, n) is value}
        assert described & paths, f"{package.__name__}.{name}"
    searched = (site / "searchindex.js").read_text("utf-8")
    assert all(f'"{name}"' in searched for name in keras_pe.__all__)


def test_pages_fetch_nothing_from_elsewhere(site):
    for path in [*site.rglob("*.html"), *site.rglob("*.css")]:
        found = FETCHED.search(path.read_text("utf-8"))
        assert not found, f"{path.relative_to(site)}: {found[0]}"


def test_what_pages_show_is_there(site):
    """Images and links within the site lead to files."""
    for path in site.rglob("*.html"):
        for target in re.findall(r"(?:src|href)=\"([^\"#?:]+)[\"#?]", path.read_text()):
            assert (path.parent / target).exists(), f"{path.name}: {target}"
