"""Tell whether a text names a held-out concept, so that training never hears of it."""

import re
from collections import defaultdict
from collections.abc import Iterable

from projects.emoji.data.table import Concept

# Names of held-out things that neither labels nor words of their own give away.
MORE_NAMES = (
    *("plane", "aircraft", "aeroplane", "airliner", "biplane", "glider"),
    *("truck", "tramway", "streetcar", "railway", "swimming", "massage", "scooter"),
    *("dustbin", "trash", "garbage", "plaster", "band aid", "skates", "graph"),
    *("theater", "theatre", "unlock", "businessman", "businesswoman", "yoga"),
    *("fries", "bowl of steaming", "cloudy", "network could", "saxowoman", "flights"),
    *("rollerblading", "air transportation", "rail transportation", "lock open"),
    *("ground transportation", "litter disposal", "squirrel", "adhesive"),
    *("cattle", "calf", "bull", "chick", "kitten", "flames", "bonfire", "padlock"),
)
_WHO = re.compile(r"^(person|woman|man|women|men) (in |with )?")
_IRREGULAR = {"mice": "mouse", "feet": "foot", "men": "man", "women": "woman"}


def singular(word: str) -> str:
    """Cuts an English plural ending; good enough to compare two words.

    >>> [singular(word) for word in ("cherries", "boxes", "roses", "mice", "bus")]
    ['cherry', 'box', 'rose', 'mouse', 'bus']
    """
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if re.search(r"(s|x|z|ch|sh)es$", word) and not word.endswith("ses"):
        return word[:-2]
    if word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def words_of(text: str) -> list[str]:
    """Splits a text to lower-case words in the singular."""
    plain = re.sub("['\u2019.]", "", text.lower())
    return [singular(word) for word in re.findall(r"[^\W\d_]+", plain)]


def squash(text: str) -> str:
    """Joins the words, so that "waste basket" and "wastebasket" are the same."""
    return "".join(words_of(text))


class HeldoutWords:
    """The names of all held-out concepts.

    Labels count wherever they occur. Tags and keywords that belong to held-out
    families alone count in titles only: some are as common as "why".
    """

    def __init__(self, concepts: Iterable[Concept]) -> None:
        concepts = list(concepts)
        self.labels = {squash(name) for name in MORE_NAMES}
        owners: dict[str, set[bool]] = defaultdict(set)
        for concept in concepts:
            for word in (concept.label, *concept.tags, *concept.keywords):
                owners[squash(word)].add(concept.heldout)
            if concept.heldout:
                self.labels.add(squash(concept.label))
                self.labels.add(squash(_WHO.sub("", concept.label)))
        self.words = {w for w, held in owners.items() if held == {True} and len(w) > 2}

    def in_title(self, title: str) -> str | None:
        """Returns the first name of a held-out concept that the title holds."""
        return self._find(title, self.labels | self.words)

    def in_text(self, text: str) -> str | None:
        """Returns the first held-out label that the text holds."""
        return self._find(text, self.labels)

    def _find(self, text: str, names: set[str]) -> str | None:
        words = words_of(text)
        for start in range(len(words)):
            for end in range(start + 1, min(start + 7, len(words) + 1)):
                if (joined := "".join(words[start:end])) in names:
                    return joined
        return None
