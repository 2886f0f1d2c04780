"""Where the caption of a sample is, unless the user says otherwise."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from keras_pe.data.skipped_samples import DAMAGED_CAPTION, NO_CAPTION, SampleError


def default_caption(sample: dict[str, Any], rng: np.random.Generator) -> str:
    """Returns the caption of a sample: its text file, or what its JSON says.

    Args:
        sample: what a source gives: `txt` as UTF-8, or `json` with `"caption"` (a
            string) or `"captions"` (a list, of which one is drawn).
        rng: where the choice comes from.

    Returns:
        The caption, with no white space around it.

    Raises:
        SampleError: if there is none, or it is empty or damaged.

    Example:
        >>> default_caption({"txt": b"a cat"}, np.random.default_rng(0))
        'a cat'
    """
    try:
        caption = _find(sample, rng)
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise SampleError(
            DAMAGED_CAPTION, f"{error}: expected UTF-8, in .json files valid JSON."
        ) from None
    if not isinstance(caption, str) or not caption.strip():
        files = sorted(name for name in sample if not name.startswith("__"))
        raise SampleError(
            NO_CAPTION,
            f"Found {caption!r:.60} in {files}: expected a .txt file, or a .json "
            'file with "caption" or "captions".',
        )
    return caption.strip()


def _find(sample: dict[str, Any], rng: np.random.Generator) -> Any:
    if "txt" in sample:
        return bytes(sample["txt"]).decode("utf-8")
    if "json" not in sample:
        return None
    record = json.loads(sample["json"])
    if not isinstance(record, dict):
        return None
    if "caption" in record:
        return record["caption"]
    captions = record.get("captions")
    if not isinstance(captions, list) or not captions:
        return None
    return captions[int(rng.integers(len(captions)))]
