"""A picture of questions, images and answers, right ones in green and wrong in red."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from keras_pe.evaluation.language import box_accuracy, exact_match, parse_box

COLUMNS = 6


def is_right(answer: str, right: str) -> bool:
    """Says whether an answer counts, as the scores have it."""
    box = parse_box(right)
    if box is not None:
        return bool(box_accuracy([answer], [box]).values[0])
    return bool(exact_match([answer], [[right]]).values[0])


def answer_figure(
    rows: Sequence[tuple[Image.Image, str, str, str]],
    path: Path,
    columns: int = COLUMNS,
) -> None:
    """Writes images with what is asked, what is answered, and what is right.

    Args:
        rows: image, question, answer, right answer.
        path: of the PNG.
        columns: images a line.
    """
    from matplotlib.figure import Figure

    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(2.1 * columns, 3.2 * lines), layout="constrained")
    for place, (image, question, answer, right) in enumerate(rows):
        axes = figure.add_subplot(lines, columns, place + 1)
        axes.imshow(image)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(_wrapped(question), fontsize=7)
        good = is_right(answer, right)
        said = _wrapped(answer) if good else f"{_wrapped(answer)}\n({_wrapped(right)})"
        axes.set_xlabel(said, fontsize=8, color="#1a7f37" if good else "#b3261e")
    figure.savefig(path, dpi=110)


def _wrapped(text: str, width: int = 26) -> str:
    return "\n".join(textwrap.wrap(text, width)) or "(nothing)"
