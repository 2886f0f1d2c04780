"""The notebooks run from beginning to end, without an error."""

import keras
import pytest

from notebooks.build import execute
from notebooks.cells import names, notebook, read_source

pytestmark = pytest.mark.timeout(1800)  # busy machines share the cores
FIRST = "01_name_pictures"  # the shortest: part of the ordinary suite


def run(name):
    """Runs a notebook's source on this process's backend, if it claims that one."""
    source = read_source(name)
    backend = keras.backend.backend()
    if backend not in source.backends:
        pytest.skip(f"{name} does not claim {backend}")
    node = notebook(source)
    execute(node, backend)
    outputs = [o for cell in node.cells for o in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)


@pytest.mark.slow
@pytest.mark.once
def test_the_first_runs():
    run(FIRST)


@pytest.mark.notebooks
@pytest.mark.parametrize("name", names())
def test_runs(name):
    run(name)
