"""Pages of the repository that lie outside of docs/ and that its pages link to.

Sphinx reads one folder. What links lead to beyond it is copied into that folder when
the site is built, with its own links changed, so that they lead on within the site and
are checked. Files that are no pages are offered for download as they are.
"""

import os
import re
from pathlib import Path

from generators.api_pages import write_changed

LINK = re.compile(r"(!?\[[^\]]*\]\()([^)#\s]+)?(#[^)\s]*)?(\))")
FENCE = re.compile(r"(^```.*?^```)", re.DOTALL | re.MULTILINE)


class OuterPages:
    """The pages outside of a folder that those in it lead to.

    Args:
        docs: the folder that Sphinx reads.
        folder: the folder in it that gets the copies.
        first: pages outside that are taken in whether or not something links to them.
    """

    def __init__(self, docs: Path, folder: str, first: list[str]) -> None:
        self.docs = docs.resolve()
        self.root = self.docs.parent
        self.folder = self.docs / folder
        self.copies: dict[Path, Path] = {}
        self._waiting = [self.root / name for name in first]
        for path in sorted(self.docs.glob("*.md")):
            self.rewritten(path.read_text("utf-8"), path.parent, path.parent)

    def write(self) -> None:
        """Writes the copies of all that can be reached."""
        pages = {}
        while self._waiting:
            path = self._waiting.pop()
            copy = self._copy(path)
            if copy.name not in pages:
                text = path.read_text("utf-8")
                pages[copy.name] = self.rewritten(text, path.parent, copy.parent)
        pages["index.md"] = self._index(sorted(set(pages)))
        self.folder.mkdir(exist_ok=True)
        write_changed(self.folder, pages)

    def rewritten(self, text: str, old: Path, new: Path) -> str:
        """Returns a page with its links changed for the folder that it moves to."""
        parts = FENCE.split(text)
        for place in range(0, len(parts), 2):  # between are blocks of code
            parts[place] = LINK.sub(
                lambda match: self._link(match, old, new), parts[place]
            )
        return "".join(parts)

    def _link(self, match: re.Match[str], old: Path, new: Path) -> str:
        start, target, anchor, end = match.groups()
        if not target or "://" in target or target.startswith("mailto:"):
            return match[0]
        path = (old / target).resolve()
        if path.suffix == ".md" and self.docs not in path.parents and path.exists():
            self._waiting.append(path)
            path = self._copy(path)
        return f"{start}{os.path.relpath(path, new)}{anchor or ''}{end}"

    def _copy(self, path: Path) -> Path:
        if path not in self.copies:
            name = path.relative_to(self.root).as_posix().replace("/", "-")
            self.copies[path] = self.folder / name
        return self.copies[path]

    def _index(self, names: list[str]) -> str:
        lines = "\n".join(name.removesuffix(".md") for name in names)
        return (
            "# Pages of the repository\n\nFrom beside the code that they are about.\n\n"
            f"```{{toctree}}\n:maxdepth: 1\n\n{lines}\n```\n"
        )
