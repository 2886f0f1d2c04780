"""The site, by Sphinx: `python -m sphinx -W --keep-going -b html docs docs/_build`."""

import os
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]
os.environ.setdefault("KERAS_BACKEND", "torch")

from generators.api_pages import ROLES, write_pages  # noqa: E402
from generators.outer_pages import OuterPages  # noqa: E402
from generators.public_names import public_names  # noqa: E402

from keras_pe.version import __version__  # noqa: E402

# === Sphinx ===
project = "keras_pe"
author = "The keras_pe authors"
copyright = "the keras_pe authors, Apache-2.0"
version = release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_parser"]
exclude_patterns = ["_build", "generators"]
templates_path: list[str] = []
default_role = "code"  # docstrings put code between single backticks
nitpicky = True
# Signatures and what is raised name classes of other libraries, and inner ones.
_OURS = "|".join(
    re.escape(public.path) for names in public_names().values() for public in names
)
nitpick_ignore_regex = [("py:(class|exc|obj)", f"(?!({_OURS})$).*")]

# === Pages ===
myst_heading_anchors = 4  # GitHub's anchors
myst_enable_extensions = ["colon_fence"]
suppress_warnings = ["myst.header"]  # a README may start with any heading

# === API ===
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # Keras' own methods are described by Keras
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 79
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

# === Looks: everything local, nothing from another server ===
html_theme = "furo"
html_title = f"keras_pe {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

PATHS = {
    public.name: public
    for names in public_names().values()
    for public in names
    if public.at_home
}


def link_names(
    app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Makes links of the public names that docstrings put between backticks."""

    def linked(match: re.Match[str]) -> str:
        public = PATHS.get(match[1])
        if public is None or public.path == name:
            return match[0]
        return f":py:{ROLES[public.kind]}:`{public.name} <{public.path}>`"

    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            line = re.sub(r"(?<=`)(?=s\b)", r"\\ ", line)  # `name`s
            lines[number] = re.sub(r"(?<![`\w:])`(\w+)`(?![`\w])", linked, line)


def skip_foreign(
    app: Any, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leaves out what a class has from Keras or from Python."""
    function = getattr(value, "fget", value)
    module = getattr(function, "__module__", None) or ""
    return None if module.startswith("keras_pe") else True


def write_generated(app: Any, config: Any) -> None:
    """Writes what is generated, before pages are looked for."""
    write_pages(DOCS / "api")
    OUTER.write()


def lead_to_copies(app: Any, page: str, source: list[str]) -> None:
    """Makes links out of docs/ lead to the copies in it."""
    if "/" not in page:
        source[0] = OUTER.rewritten(source[0], DOCS, DOCS)


OUTER = OuterPages(DOCS, "repository", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])


def setup(app: Any) -> dict[str, bool]:
    app.connect("config-inited", write_generated)
    app.connect("source-read", lead_to_copies)
    app.connect("autodoc-process-docstring", link_names, priority=400)
    app.connect("autodoc-skip-member", skip_foreign)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
