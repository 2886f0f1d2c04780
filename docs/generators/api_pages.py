"""The API reference: a page a package, of what it lists in `__all__`."""

import inspect
import re
import sys
from pathlib import Path

from sphinx.errors import PycodeError
from sphinx.pycode import ModuleAnalyzer

from generators.public_names import PublicName, public_names

ROLES = {"class": "class", "function": "func", "data": "data"}
INDEX = """# API reference

Every public name of every package, from the docstrings of the code. Examples in them
run with the tests.

{items}

```{{toctree}}
:hidden:

{pages}
```
"""


def summary(docstring: str | None) -> str:
    """Returns the first sentence of a docstring, with code as Markdown has it."""
    paragraph = (docstring or "").strip().split("\n\n")[0]
    return re.sub(r"``([^`]+)``", r"`\1`", " ".join(paragraph.split()))


def _comment(public: PublicName) -> list[str]:
    """Returns what a `#:` comment says of a constant, where it is defined."""
    for module_name, module in list(sys.modules.items()):
        if not module_name.startswith("keras_pe.") or module is None:
            continue
        if vars(module).get(public.name) is not public.value:
            continue
        try:
            analyzer = ModuleAnalyzer.for_module(module_name)
            analyzer.analyze()
        except PycodeError:
            continue
        if ("", public.name) in analyzer.attr_docs:
            return analyzer.attr_docs["", public.name]
    return []


def _description(public: PublicName) -> str:
    if public.kind == "data":
        directive = [f".. py:data:: {public.name}", f"   :module: {public.package}", ""]
        directive += [f"   {line}" for line in _comment(public)]
    else:
        directive = [f".. auto{public.kind}:: {public.path}"]
    if public.kind == "class":
        directive += ["   :members:", "   :inherited-members:"]
    body = "\n".join(directive).rstrip()
    return f"## {public.name}\n\n```{{eval-rst}}\n{body}\n```\n"


def _item(public: PublicName) -> str:
    link = f"{{py:{ROLES[public.kind]}}}`{public.name} <{public.path}>`"
    text = summary(inspect.getdoc(public.value)) if public.kind != "data" else ""
    if public.kind == "data":
        text = summary("\n".join(_comment(public)))
    if not public.at_home:
        text = f"Described under `{public.home}`. {text}"
    return f"* {link}: {text}" if text else f"* {link}"


def _page(package: str, names: list[PublicName]) -> str:
    items = "\n".join(_item(public) for public in names)
    described = "\n".join(_description(public) for public in names if public.at_home)
    return (
        f"# {package}\n\n```{{eval-rst}}\n.. automodule:: {package}\n```\n\n{items}\n\n"
        f"{described}"
    )


def write_pages(folder: Path) -> None:
    """Writes the pages; those that are as they were keep their date.

    Args:
        folder: where they go; what else is in it is removed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = public_names()
    pages = {f"{package}.md": _page(package, names[package]) for package in names}
    items = "\n".join(
        f"* [{package}]({package}.md): {summary(sys.modules[package].__doc__)}"
        for package in names
    )
    pages["index.md"] = INDEX.format(items=items, pages="\n".join(names))
    write_changed(folder, pages)


def write_changed(folder: Path, pages: dict[str, str]) -> None:
    """Makes a folder hold these pages and no others, touching what differs alone."""
    for path in folder.glob("*.md"):
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
