"""What the readers return: where samples are, and what is right for them."""

import dataclasses
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images or videos, each of one class; for `evaluate_zero_shot`.

    Attributes:
        samples: paths, or `ShardImage`s.
        labels: for each the place of its class in `class_names`.
        class_names: names of the classes, as they go into prompts.

    Example:
        >>> found = Labelled(("a.png", "b.png"), (1, 0), ("a cat", "a dog"))
        >>> len(found), found.class_names[found.labels[0]]
        (2, 'a dog')
    """

    samples: tuple[Any, ...]
    labels: tuple[int, ...]
    class_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.samples)


@dataclasses.dataclass(frozen=True)
class Captioned:
    """Images or videos with their captions; for `evaluate_retrieval`.

    Attributes:
        samples: paths, or `ShardImage`s.
        texts: for each all of its captions.

    Example:
        >>> found = Captioned(("owl.png",), (("an owl", "a bird"),))
        >>> len(found), found.texts[0]
        (1, ('an owl', 'a bird'))
    """

    samples: tuple[Any, ...]
    texts: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.samples)


@dataclasses.dataclass(frozen=True)
class Segmented:
    """Images, each with a class for every pixel.

    Attributes:
        images: paths.
        masks: for each the path of its mask, to be opened with the reader of masks
            beside the reader of the data set.
        class_names: names of the classes, by number; None if the data set brings none.
        num_classes: how many classes there are.
        ignore_index: value in an opened mask of pixels that do not count.

    Example:
        >>> found = Segmented((Path("a.jpg"),), (Path("a.png"),), None, 150, 255)
        >>> len(found.images), found.num_classes
        (1, 150)
    """

    images: tuple[Path, ...]
    masks: tuple[Path, ...]
    class_names: tuple[str, ...] | None
    num_classes: int
    ignore_index: int

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class VideoObjects:
    """One video with the masks of its objects.

    Attributes:
        name: of the video.
        frames: paths of all frames, in order.
        masks: for each frame the path of its mask, or None where there is none; the
            first frame always has one.

    Example:
        >>> frames = (Path("bear/00000.jpg"), Path("bear/00001.jpg"))
        >>> clip = VideoObjects("bear", frames, (Path("bear/00000.png"), None))
        >>> clip.masks[1] is None    # not every frame has one
        True
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path | None, ...]

    def __len__(self) -> int:
        return len(self.frames)
