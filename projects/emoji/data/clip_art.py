"""Read the metadata of a clip art drawing and find a clean title for it."""

import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from projects.emoji.data.heldout_words import singular

_DC = "{http://purl.org/dc/elements/1.1/}"
PUBLIC_DOMAIN = (
    "http://web.resource.org/cc/PublicDomain",
    "http://creativecommons.org/licenses/publicdomain/",
)
MAX_WORDS = 7
# Misspelt words, and foreign ones that stand for a whole title.
_WORDS = json.loads(Path(__file__).with_name("clip_art_words.json").read_text("utf-8"))
_CORRECTED: dict[str, str] = _WORDS["corrected"]
_TRANSLATED: dict[str, str] = _WORDS["translated"]
# Authors and a series whose titles are Italian or French.
_FOREIGN = re.compile("architetto|rollandin|guillou|various cliparts", re.IGNORECASE)
# Words of keywords that sort the library and say nothing of the image, and words
# of titles and file names that tell of the file, its author or the style.
_SORTING: frozenset[str] = frozenset(_WORDS["sorting"])
_FILE_WORDS: frozenset[str] = frozenset(_WORDS["file"])
# Paths: mistaken titles, held-out things under other names, what suits few readers.
LEFT_OUT: tuple[str, ...] = tuple(_WORDS["left_out"])
_FEW = 3  # so many files may share a title without suspicion


@dataclass
class ClipArt:
    """One drawing of the library with what its file says about it."""

    path: str
    svg: str
    title: str = ""
    keywords: list[str] = field(default_factory=list)
    creators: str = ""
    licence: str = ""
    lettered: bool = False  # shows text, which needs fonts
    raster: bool = False  # shows a bitmap

    @property
    def stem(self) -> str:
        """File name without its ending."""
        return PurePosixPath(self.path).stem


def read_clip_art(path: str, data: bytes) -> ClipArt:
    """Parses a document; raises ``ValueError`` for one that is not well formed."""
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError as error:
        raise ValueError(str(error)) from error
    declared = re.match(rb"""<\?xml[^>]*encoding=["']([\w.-]+)["']""", data)
    encoding = declared[1].decode() if declared else "utf-8"
    art = ClipArt(path, data.decode(encoding))
    for element in root.iter():
        tag = str(element.tag).rpartition("}")[2]
        if tag == "Work" and not art.licence:
            _read_work(element, art)
        elif tag == "text":
            art.lettered |= bool("".join(element.itertext()).strip())
        elif tag == "image":
            art.raster = True
    return art


def _read_work(work: ElementTree.Element, art: ClipArt) -> None:
    """Takes title, keywords, creators and licence from the Dublin Core block."""
    art.title = _text(work.findall(f"{_DC}title"))
    art.creators = _text(
        work.findall(f"{_DC}creator")
        + work.findall(f"{_DC}publisher")
        + work.findall(f"{_DC}rights")
    )
    for element in work.iter():
        tag = str(element.tag).rpartition("}")[2]
        if tag == "li" and element.text:
            art.keywords.append(element.text)
        elif tag == "license":
            art.licence = next(iter(element.attrib.values()), "")


def _text(elements: Sequence[ElementTree.Element]) -> str:
    return " ".join(" ".join("".join(e.itertext()) for e in elements).split())


def plain_words(text: str) -> list[str]:
    """Splits to lower-case ASCII words; numbers and camel case are taken apart."""
    text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", text.replace("'", ""))
    return re.findall(r"[a-z]+", text.lower())


def clean_title(text: str, creators: str) -> str | None:
    """Returns the words that name the image, or None where none are left.

    >>> clean_title("apple_slice_nicu_bucul_02", "Nicu Buculei")
    'apple slice'
    """
    text = re.sub(r"^clipart by .*? - ", "", text, flags=re.IGNORECASE)
    text = re.sub(r" - .*$|\(.*?\)|\.svg$", "", text)
    words = plain_words(text)
    authors = [word for word in plain_words(creators) if len(word) > 2]
    # File names end in the author's name, often cut off.
    while words and _is_author(words[-1], authors):
        words.pop()
    for word in words:
        if word in _TRANSLATED:
            return _TRANSLATED[word]
    words = [_CORRECTED.get(w, w) for w in words if w not in _FILE_WORDS]
    telling = [word for word in words if len(word) > 2 and re.search("[aeiouy]", word)]
    if not telling or len(words) > MAX_WORDS:
        return None
    return " ".join(words)


def _is_author(word: str, authors: Sequence[str]) -> bool:
    return len(word) < 2 or any(
        author.startswith(word) or word == author for author in authors
    )


def titles_of(drawings: Sequence[ClipArt], english: Container[str]) -> list[str | None]:
    """Chooses for each drawing its title or, where that is none of its own, its name.

    Authors often gave one title to a whole series, such as "SVG Road Signs" or
    "Clipart by Nicu Buculei - book_01"; then only the file names differ. Where a
    title may be foreign, all of its words have to be ``english`` or translated.
    """
    groups: dict[str, list[ClipArt]] = defaultdict(list)
    for drawing in drawings:
        groups[drawing.title].append(drawing)
    collective = {title for title, group in groups.items() if _names_many(title, group)}
    chosen = []
    for drawing in drawings:
        named = clean_title(drawing.stem, drawing.creators)
        titled = clean_title(drawing.title, drawing.creators)
        own = drawing.title not in collective
        if drawing.title.lower().startswith("clipart by"):
            titled = None  # the name of whichever drawing came first
        title = (titled or named) if own else (named or titled)
        if title and _FOREIGN.search(f"{drawing.creators} {drawing.title}"):
            known = title in _TRANSLATED.values()
            if not known and not all(word in english for word in title.split()):
                title = None
        chosen.append(title)
    return chosen


def _names_many(title: str, group: Sequence[ClipArt]) -> bool:
    """Tells whether a title covers files whose names speak of other things."""
    words = {singular(word) for word in plain_words(title)}
    names = [clean_title(d.stem, d.creators) for d in group if d.stem]
    own = [{singular(w) for w in name.split()} <= words for name in names if name]
    return len(group) > _FEW and sum(own) < len(own) / 2


def clean_keywords(drawing: ClipArt, title: str) -> list[str]:
    """Keeps the keywords that are plain words about the image."""
    authors = set(plain_words(drawing.creators))
    kept = []
    for keyword in drawing.keywords:
        words = plain_words(re.sub(r"hash\(.*?\)", "", keyword.lower()))
        phrase = " ".join(words)
        if not 1 <= len(words) <= 3 or len(phrase) < 3 or phrase == title:
            continue
        if not (set(words) <= _SORTING or authors & set(words)):
            kept.append(phrase)
    return sorted(dict.fromkeys(kept))
