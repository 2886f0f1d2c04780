"""Spaces of a text whose tokens do not keep them, as people write it."""

import re

# CLIP's vocabulary knows where words, digits and marks end, not what stood between.
_RULES = tuple(
    (re.compile(pattern), written)
    for pattern, written in (
        (r"(?<=\d) (?=\d)", ""),  # each digit is a token: 1 2 -> 12
        (r"(?<=\d) (?=(?:st|nd|rd|th)\b)", ""),  # 1 st -> 1st
        (r" (?=[,.:;!?%)\]}])", ""),  # a cat . -> a cat.
        (r"(?<=[(\[{#]) ", ""),  # ( a cat -> (a cat
        (r"(?<=\d)([.:]) (?=\d)", r"\1"),  # 3. 5 -> 3.5, 10: 30 -> 10:30
        (r"(?<=\b\w\.) (?=\w\.)", ""),  # u. s. -> u.s.
        (r'" ([^"]+?) "', r'"\1"'),  # " a cat " -> "a cat"
        (r"(?<=\w) ?([-/]) ?(?=\w)", r"\1"),  # left - facing -> left-facing
        (r" (?='(?:s|t|re|ve|m|ll|d)\b)", ""),  # it 's -> it's
        (r"(?<=\w) ' (?=\w)", "'"),  # o ' clock -> o'clock
    )
)
# The whole text: -5, .5 or 1,000, where "125, 046" in a box are two.
_NUMBER = re.compile(r"[-+]?(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?")


def spaced_as_written(text: str) -> str:
    """Returns words that stand apart with the spaces that people write.

    What stood in a text can't be known: digits that follow each other are one number,
    marks stand at the word before them, hyphens and slashes between their words.

    Args:
        text: words, digits and marks with a space between each.

    Example:
        >>> spaced_as_written("[ 1 2 5 , 0 4 6 ]")
        '[125, 046]'
        >>> spaced_as_written("couple with heart : man , man")
        'couple with heart: man, man'
        >>> spaced_as_written("left - facing fist ( it 's 1 st )")
        "left-facing fist (it's 1st)"
    """
    if _NUMBER.fullmatch(number := text.replace(" ", "")):
        return number
    for pattern, written in _RULES:
        text = pattern.sub(written, text)
    return text
