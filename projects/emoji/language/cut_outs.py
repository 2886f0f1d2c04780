"""Drawings as the cut-outs of composed scenes, named as training captions name them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from projects.emoji.data.shards import Record
from projects.emoji.language.drawings import name_of
from projects.emoji.probing.scene_classes import CLASS_NAMES, class_of
from projects.emoji.probing.scenes import LEAST_SOLID, solid_share
from recipes.language_data.scene_images import CutOut, cropped


def cut_outs(images: np.ndarray, records: Sequence[Record]) -> list[CutOut]:
    """Returns the drawings that show one thing of a known class.

    Flags, symbols, drawings that are mostly translucent and subgroups of many kinds of
    things are left out.

    Args:
        images: uint8 `(drawings, height, width, 4)`.
        records: what the shards say of them.
    """
    found = []
    for image, record in zip(images, records, strict=True):
        number = class_of(record)
        if number is None or record["is_flag"] or record["is_symbol"]:
            continue
        cut = cropped(Image.fromarray(image))
        if cut is not None and solid_share(image) >= LEAST_SOLID:
            kind = CLASS_NAMES[number]
            found.append(
                CutOut(cut, name_of(record), kind, record["family"], record["key"])
            )
    return found
