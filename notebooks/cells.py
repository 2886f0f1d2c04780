"""From a source in percent format to the cells of a notebook."""

import re
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
from nbformat import NotebookNode

HERE = Path(__file__).parent
REPOSITORY = "keras-pe/keras_pe"  # on GitHub
BRANCH = "main"
SPELLED = {"torch": "PyTorch", "jax": "JAX", "tensorflow": "TensorFlow"}
BACKENDS = tuple(SPELLED)
KERNEL = {
    "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python"},
}

BADGES = (
    "[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/{branch}/{path})\n"
    "[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]"
    "(https://kaggle.com/kernels/welcome?src=https://github.com/{repository}/blob/"
    "{branch}/{path})"
)

SET_UP_TEXT = """\
## Set up
The next cell installs keras_pe on Colab and Kaggle only. Elsewhere: clone the repository, run
`pip install -e ".[torch,{extras}]" jupyterlab` in it, then `jupyter lab notebooks`. The notebook needs no network after
that, and no GPU.

keras_pe runs on PyTorch, JAX and TensorFlow, and this notebook is tested on {tested}: the next cell takes the first that
is installed, unless `KERAS_BACKEND` says which. On a TPU (Colab: *Runtime*, *Change runtime type*; Kaggle: *Accelerator*)
write `"jax"` into its last line: no other line changes, but the first call of each step compiles."""  # noqa: E501

SET_UP_CODE = """\
import os
import subprocess
import sys
from importlib.util import find_spec

if "google.colab" in sys.modules or os.environ.get("KAGGLE_KERNEL_RUN_TYPE"):
    clone = ["git", "clone", "--depth", "1", "https://github.com/{repository}"]
    subprocess.run(clone, check=True)
    install = ["install", "--quiet", "./{folder}[{extras}]"]
    subprocess.run([sys.executable, "-m", "pip", *install], check=True)
    os.chdir("{folder}/notebooks")

installed = [name for name in ({choices}) if find_spec(name)]
os.environ.setdefault("KERAS_BACKEND", installed[0] if installed else "torch")\
"""


class Source(NamedTuple):
    """A source, read.

    Attributes:
        name: of the file, without suffix.
        extras: of keras_pe that the notebook needs, separated by commas.
        backends: those that it runs on.
        cells: with the badges and the set-up.
    """

    name: str
    extras: str
    backends: tuple[str, ...]
    cells: list[NotebookNode]


def names() -> list[str]:
    """Returns the names of all sources, in order."""
    return sorted(path.stem for path in (HERE / "sources").glob("[0-9]*.py"))


def read_source(name: str) -> Source:
    """Reads a source and adds what all notebooks share.

    Args:
        name: of the file in `sources/`, without suffix.

    Raises:
        ValueError: if the source says neither what it needs nor where it runs, or does
            not begin with a title.
    """
    path = HERE / "sources" / f"{name}.py"
    header, marker, body = path.read_text("utf-8").partition("# %% [markdown]\n")
    said = dict(re.findall(r"^# (extras|backends): (.+)$", header, re.MULTILINE))
    backends = tuple(said.get("backends", "").split(", "))
    if "extras" not in said or not set(backends) <= set(BACKENDS):
        raise ValueError(
            f"{path.name} must begin with `# extras: ...` and `# backends: ...`, of "
            f"{', '.join(BACKENDS)}, before its first cell; got {header!r}."
        )
    cells = jupytext.reads(marker + body, fmt="py:percent").cells
    title, _, rest = cells[0].source.partition("\n")
    if not title.startswith("# "):
        raise ValueError(f"{path.name} must begin with a title, got {title!r}.")
    fill = {
        "repository": REPOSITORY,
        "branch": BRANCH,
        "folder": REPOSITORY.split("/")[1],
        "extras": said["extras"],
        "path": f"notebooks/{name}.ipynb",
        "choices": ", ".join(f'"{b}"' for b in backends) + "," * (len(backends) == 1),
        "tested": " and ".join(", ".join(SPELLED[b] for b in backends).rsplit(", ", 1)),
    }
    first = f"{title}\n{BADGES.format(**fill)}\n{rest}"
    cells = [
        nbformat.v4.new_markdown_cell(first),
        nbformat.v4.new_markdown_cell(SET_UP_TEXT.format(**fill)),
        nbformat.v4.new_code_cell(SET_UP_CODE.format(**fill)),
        *cells[1:],
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02}"  # the same source gives the same file
        cell.metadata = {}
    return Source(name, said["extras"], backends, cells)


def notebook(source: Source) -> NotebookNode:
    """Returns a notebook of a source, without outputs."""
    return nbformat.v4.new_notebook(cells=source.cells, metadata=KERNEL)


def path_of(name: str) -> Path:
    """Returns where the notebook of this name is."""
    return HERE / f"{name}.ipynb"


def parts(node: NotebookNode) -> list[tuple[str, str, str]]:
    """Returns (id, kind, text) of all cells, to compare notebooks by."""
    return [(cell.id, cell.cell_type, cell.source) for cell in node.cells]
