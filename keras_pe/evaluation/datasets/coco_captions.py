"""COCO captions: one JSON file for all images of a split."""

import os
from pathlib import Path

from keras_pe.evaluation.datasets.dataset_files import check_there, folder, read_json
from keras_pe.evaluation.datasets.types import Captioned


def read_coco_captions(
    annotations: str | os.PathLike[str],
    images: str | os.PathLike[str],
    max_captions: int | None = None,
) -> Captioned:
    """Reads images and captions in COCO's layout.

    Args:
        annotations: such as `annotations/captions_val2014.json`, with `"images"`
            (`id`, `file_name`) and `"annotations"` (`image_id`, `caption`).
        images: folder of the images.
        max_captions: captions to take of each image, the first ones. Five is usual
            in retrieval, some images have six or seven. None: all.

    Returns:
        `Captioned`, in the order of `"images"`; images without captions left out.

    Raises:
        FileNotFoundError: naming images that are missing.
        ValueError: if it is no such file.

    Source: https://cocodataset.org/#format-data, "Image Captioning".

    Example:
        >>> import json
        >>> from PIL import Image
        >>> Path("val2014").mkdir()
        >>> Image.new("RGB", (8, 8)).save("val2014/1.jpg")
        >>> said = {"images": [{"id": 1, "file_name": "1.jpg"}],
        ...     "annotations": [{"image_id": 1, "caption": "a black square"}]}
        >>> _ = Path("captions.json").write_text(json.dumps(said))
        >>> read_coco_captions("captions.json", "val2014").texts
        (('a black square',),)
    """
    directory = folder(images, "the images")
    content = read_json(annotations)
    try:
        files = {entry["id"]: str(entry["file_name"]) for entry in content["images"]}
        captions: dict[int, list[str]] = {number: [] for number in files}
        for entry in content["annotations"]:
            captions[entry["image_id"]].append(entry["caption"].strip())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{annotations} has not the layout of COCO captions "
            f"({type(error).__name__}: {error}): expected images with id and file_name "
            "and annotations with image_id and caption."
        ) from error
    described = {number: texts for number, texts in captions.items() if texts}
    paths: tuple[Path, ...] = tuple(directory / files[number] for number in described)
    if not paths:
        raise ValueError(f"{annotations} holds no captions.")
    check_there(paths, "images")
    return Captioned(
        paths, tuple(tuple(texts[:max_captions]) for texts in described.values())
    )
