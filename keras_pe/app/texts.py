"""Texts that a visitor types: a name or a text a line, short enough for the model."""

from collections.abc import Sequence

from keras_pe.preprocessing.prompts import fill
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.printable_text import printable

MOST_LINES = 200
LONGEST_LINE = 300  # characters; a model reads a few dozen words


def lines_of(text: str, what: str, least: int = 1, most: int = MOST_LINES) -> list[str]:
    """Returns the lines of a text, without empty ones.

    Args:
        text: as typed, one a line.
        what: what a line is, for messages: "name" or "text".
        least: fewest lines.
        most: most lines.

    Raises:
        ValueError: if there are fewer or more, or one is too long.

    Example:
        >>> lines_of("an owl\\n\\n a pizza ", "name")
        ['an owl', 'a pizza']
    """
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not least <= len(found) <= most:
        several = "" if len(found) == 1 else "s"
        raise ValueError(
            f"Got {len(found) or 'no'} {what}{several}; expected {least} to {most}, "
            f"one a line."
            + (" One alone would always be 100 %." if least == 2 and found else "")
        )
    for line in found:
        if len(line) > LONGEST_LINE:
            raise ValueError(
                f"A {what} of {len(line):,} characters; expected at most "
                f"{LONGEST_LINE}: {printable(line[:60])}..."
            )
    return found


def silent(tokenizer: PETokenizer) -> PETokenizer:
    """Returns a tokenizer that cuts what is too long without a word.

    Args:
        tokenizer: whose texts are cut where it would cut them.
    """
    config = {**tokenizer.get_config(), "on_truncation": "ignore"}
    return PETokenizer.from_config(config)


def cut_texts(
    tokenizer: PETokenizer, texts: Sequence[str], templates: Sequence[str] = ("{}",)
) -> list[str]:
    """Returns a note if the model reads the beginning of some texts alone.

    Args:
        tokenizer: of the model.
        texts: as typed.
        templates: prompts that they are put into.

    Example:
        >>> tokenizer = PETokenizer(context_length=4)
        >>> cut_texts(tokenizer, ["an owl", "an owl on a branch"])
        ["Longer than the model reads, and cut: 'an owl on a branch'"]
    """
    counting = silent(tokenizer)
    counting([fill(template, text) for text in texts for template in templates])
    report = counting.last_report
    assert report is not None  # of the call above
    places = {number // len(templates) for number in report.truncated_indices}
    cut = [f"'{printable(texts[place])}'" for place in sorted(places)]
    if not cut:
        return []
    more = f" and {len(cut) - 3} more" if len(cut) > 3 else ""
    return [f"Longer than the model reads, and cut: {', '.join(cut[:3])}{more}"]
