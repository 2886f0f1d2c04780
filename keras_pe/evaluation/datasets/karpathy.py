"""The splits of Karpathy and Fei-Fei, in which Flickr30k and COCO are compared."""

import os
from collections.abc import Collection

from keras_pe.evaluation.datasets.dataset_files import check_there, folder, read_json
from keras_pe.evaluation.datasets.types import Captioned


def read_karpathy_captions(
    path: str | os.PathLike[str],
    images: str | os.PathLike[str],
    splits: str | Collection[str] = "test",
    max_captions: int | None = 5,
) -> Captioned:
    """Reads images and captions of `dataset_flickr30k.json` or `dataset_coco.json`.

    Args:
        path: the JSON file, with `"images"` (`filename`, perhaps `filepath`, `split`,
            `sentences` with `raw`).
        images: folder of the images, or with the folders that `filepath` names.
        splits: "test", "val", "train", "restval", or several.
        max_captions: captions to take of each image; None: all.

    Returns:
        `Captioned`.

    Raises:
        FileNotFoundError: naming images that are missing.
        ValueError: if it is no such file, or has no such split.

    Source: Karpathy and Fei-Fei, "Deep Visual-Semantic Alignments", data page.

    Example:
        >>> from pathlib import Path
        >>> import json
        >>> from PIL import Image
        >>> Path("flickr").mkdir()
        >>> Image.new("RGB", (8, 8)).save("flickr/1.jpg")
        >>> said = {"images": [{"filename": "1.jpg", "split": "test",
        ...     "sentences": [{"raw": "a black square"}]}]}
        >>> _ = Path("dataset.json").write_text(json.dumps(said))
        >>> read_karpathy_captions("dataset.json", "flickr").texts
        (('a black square',),)
    """
    directory = folder(images, "the images")
    wanted = {splits} if isinstance(splits, str) else set(splits)
    content = read_json(path)
    try:
        there = {entry["split"] for entry in content["images"]}
        chosen = [entry for entry in content["images"] if entry["split"] in wanted]
        paths = tuple(
            directory / entry.get("filepath", "") / entry["filename"]
            for entry in chosen
        )
        texts = tuple(
            tuple(sentence["raw"].strip() for sentence in entry["sentences"])
            for entry in chosen
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} has not the layout of Karpathy's splits ({type(error).__name__}: "
            f"{error}): expected images with filename, split and sentences."
        ) from error
    if not paths:
        raise ValueError(f"{path} has splits {sorted(there)}, got {sorted(wanted)}.")
    check_there(paths, "images")
    return Captioned(paths, tuple(several[:max_captions] for several in texts))
