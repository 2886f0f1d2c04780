"""One folder a class: ImageNet and its relatives, Kinetics, UCF101, your own."""

import os
from collections.abc import Collection
from pathlib import Path

from keras_pe.evaluation.datasets.dataset_files import (
    folder,
    read_json,
    read_lines,
)
from keras_pe.evaluation.datasets.types import Labelled
from keras_pe.preprocessing.media_folders import (
    IMAGE_SUFFIXES,
    VIDEO_SUFFIXES,
    list_classes,
)

FilePath = str | os.PathLike[str]


def read_image_folder(root: FilePath, names: FilePath | None = None) -> Labelled:
    """Reads images in folders of their class.

    Args:
        root: such as ImageNet's `val`, with `n01440764/*.JPEG` and so on.
        names: None takes the folders' names, with spaces for underscores. A `.json`
            file says what the classes of the folders are called, and which there are:
            `{"n01440764": "tench", ...}`, or `{"0": ["n01440764", "tench"], ...}`
            (Keras' `imagenet_class_index.json`), or a list of names in the order of
            the sorted folders. A `.txt` file is such a list, one a line.

    Returns:
        `Labelled`; classes without images of their own still compete. A warning
        names empty folders. Hidden folders and those that systems leave are no
        classes, see `preprocessing/media_folders.py`.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in it.
        ValueError: if names and folders do not fit together.

    Example:
        >>> from PIL import Image
        >>> for name in ("n01440764", "n01443537"):
        ...     Path("val", name).mkdir(parents=True)
        ...     Image.new("RGB", (8, 8)).save(f"val/{name}/1.png")
        >>> index = '{"n01440764": "tench", "n01443537": "goldfish"}'
        >>> _ = Path("index.json").write_text(index)
        >>> list(read_image_folder("val", "index.json").class_names)
        ['tench', 'goldfish']
    """
    return _read(root, names, IMAGE_SUFFIXES)


def read_video_folder(root: FilePath, names: FilePath | None = None) -> Labelled:
    """Reads videos in folders of their class; see `read_image_folder`.

    Example:
        >>> for name in ("jump", "run"):
        ...     Path("clips", name).mkdir(parents=True)
        ...     _ = Path(f"clips/{name}/1.mp4").write_bytes(b"")    # is not opened
        >>> found = read_video_folder("clips")
        >>> found.class_names, found.labels
        (('jump', 'run'), (0, 1))
    """
    return _read(root, names, VIDEO_SUFFIXES)


def _read(
    root: FilePath, names: FilePath | None, suffixes: Collection[str]
) -> Labelled:
    directory = folder(root, "one folder for each class")
    folders = list_classes(directory, suffixes)
    name_of = _names(list(folders), names)
    places = {name: place for place, name in enumerate(name_of)}
    unknown = [name for name in folders if name not in places]
    if unknown:
        raise ValueError(
            f"{names} has no name for {len(unknown)} folders of {directory}, such as "
            f"{unknown[0]!r}. Add them, or move them elsewhere."
        )
    samples: list[Path] = []
    labels: list[int] = []
    for name, found in folders.items():
        samples += found
        labels += [places[name]] * len(found)
    if not samples:
        raise FileNotFoundError(
            f"No file in the folders of {directory}: looked for CLASS/*"
            f"{{{','.join(suffixes)}}} in {len(folders)} folders."
        )
    return Labelled(tuple(samples), tuple(labels), tuple(name_of.values()))


def _names(folders: list[str], names: FilePath | None) -> dict[str, str]:
    """Returns the class name of each folder, in the order of the classes."""
    if names is None:
        return {name: name.replace("_", " ") for name in folders}
    content = read_lines(names) if Path(names).suffix == ".txt" else read_json(names)
    if isinstance(content, list):
        if len(content) != len(folders):
            raise ValueError(
                f"{names} lists {len(content)} names for {len(folders)} folders; a "
                "list has to fit the sorted folders one to one."
            )
        content = dict(zip(folders, content, strict=True))
    elif isinstance(content, dict) and all(
        isinstance(value, list) and len(value) == 2 for value in content.values()
    ):
        content = dict(content[key] for key in sorted(content, key=int))
    if not isinstance(content, dict) or not all(
        isinstance(name, str) for name in content.values()
    ):
        raise ValueError(
            f"{names} holds no class names: expected a list of them, a mapping from "
            'folder to name, or {"0": [folder, name], ...}.'
        )
    return content
