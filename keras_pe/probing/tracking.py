"""Tracking probe: masks travel from frame to frame by the similarity of patches."""

import dataclasses
from collections import deque
from typing import Any, ClassVar, Literal, get_args

import numpy as np

from keras_pe.models.convert import resize_matrix
from keras_pe.probing.mask_scores import boundary_score, region_score
from keras_pe.probing.nearest_neighbours import unit
from keras_pe.probing.probe import Maps, TrainingFreeProbe

FirstMask = Literal["nearest", "cover"]


@dataclasses.dataclass(frozen=True)
class Clip:
    """A video with the masks of its objects.

    Attributes:
        frames: `(frames, height, width, 3)`, prepared: float in [-1, 1].
        masks: whole numbers `(frames, height, width)`: 0 is background, k the k-th
            object, 255 is ignored. The first one is given to the tracker, the others
            score it.
        name: of the clip.

    Example:
        >>> frames = np.zeros((3, 16, 16, 3), "float32")
        >>> masks = np.zeros((3, 16, 16), "uint8")
        >>> masks[:, :8] = 1    # one object, above
        >>> Clip(frames, masks, "still").name
        'still'
    """

    frames: np.ndarray
    masks: np.ndarray
    name: str = ""


class Tracking(TrainingFreeProbe):
    """Label propagation as on DAVIS: the score is the mean of J and F.

    A patch takes the labels of the `top_k` most similar patches of the first frame and
    of the last `context` frames, weighted by exp(cosine / temperature), out of a
    neighbourhood. The label maps are resized to the frame, bilinearly, each is brought
    to the range from 0 to 1, and the largest names the pixel. Nothing is trained.

    Args:
        context: earlier frames that are asked, besides the first.
        top_k: patches that vote, and any that are exactly as similar as the last one.
        temperature: of the weights.
        radius: of the neighbourhood, in patches; None asks whole frames.
        frames_at_once: frames in a forward pass.
        first_mask: how the first mask becomes labels of patches: "nearest" takes the
            pixel in the middle, "cover" the share of the patch that each object covers.
        normalize: whether each object's map, and the background's, is brought to the
            range from 0 to 1 in every frame. An object whose labels have faded is then
            as strong at its best place as any other, also where nothing is left of it.

    Raises:
        ValueError: for values that make no sense.

    Source: Perception Encoder, section 3 (7 frames of context, after Jabri et al.);
    the rule and the other defaults are those of DINO's `eval_video_segmentation.py`.

    Example:
        >>> sorted(vars(Tracking(first_mask="cover", normalize=False)).items())[:2]
        [('context', 7), ('first_mask', 'cover')]
    """

    name: ClassVar[str] = "tracking"
    metric: ClassVar[str] = "J&F"
    bounds = (0.0, 1.0)

    def __init__(
        self,
        context: int = 7,
        top_k: int = 5,
        temperature: float = 0.1,
        radius: int | None = 12,
        frames_at_once: int = 8,
        first_mask: FirstMask = "nearest",
        normalize: bool = True,
    ) -> None:
        if min(context, top_k, frames_at_once) < 1 or temperature <= 0:
            raise ValueError(
                f"context={context}, top_k={top_k}, temperature={temperature}: "
                f"expected values above 0."
            )
        if first_mask not in get_args(FirstMask):
            raise ValueError(
                f"first_mask={first_mask!r}: expected one of {get_args(FirstMask)}."
            )
        self.context, self.top_k, self.temperature = context, top_k, temperature
        self.radius, self.frames_at_once = radius, frames_at_once
        self.first_mask, self.normalize = first_mask, normalize

    def measure(self, item: Any, maps: Maps) -> list[np.ndarray]:
        clip = checked_clip(item)
        objects, scored = objects_of(clip.masks[0]), scored_frames(len(clip.frames))
        trackers: list[Tracker] = []
        scores: list[list[np.ndarray]] = []
        count = len(clip.frames)
        for start in range(0, count, self.frames_at_once):
            places = np.arange(start, start + self.frames_at_once)
            frames = clip.frames[np.minimum(places, count - 1)]
            layers = maps(np.asarray(frames, "float32"))
            if not trackers:
                trackers = [Tracker(self, clip.masks[0], m.shape[1:3]) for m in layers]
                scores = [[] for _ in layers]
            for layer, tracker, found in zip(layers, trackers, scores, strict=True):
                for place in places[places < count]:
                    mask = tracker.step(layer[place - start])
                    if place in scored:
                        found.append(frame_scores(mask, clip.masks[place], objects))
        return [summed(found) for found in scores]

    def baseline(self, item: Any) -> np.ndarray:
        """Returns the score of masks that stay where they were in the first frame."""
        clip = checked_clip(item)
        first, objects = clip.masks[0], objects_of(clip.masks[0])
        scored = scored_frames(len(clip.masks))
        return summed([frame_scores(first, clip.masks[i], objects) for i in scored])

    def score(self, means: np.ndarray) -> np.ndarray:
        region, boundary, count = np.moveaxis(means, -1, 0)
        return np.asarray((region + boundary) / 2 / np.maximum(count, 1e-300))


class Tracker:
    """Propagates the labels of a clip, for one layer.

    Args:
        probe: the settings.
        mask: of the first frame, `(height, width)`.
        grid: rows and columns of patches.
    """

    def __init__(
        self, probe: Tracking, mask: np.ndarray, grid: tuple[int, ...]
    ) -> None:
        self.probe, self.size = probe, mask.shape
        self.rows, self.columns = grid
        known = np.where(mask == 255, 0, mask)
        self.num_labels = int(known.max()) + 1
        first = cover if probe.first_mask == "cover" else nearest
        self.first_labels = first(np.eye(self.num_labels)[known], grid)
        self.first: np.ndarray | None = None
        self.recent: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=probe.context)
        self.near = neighbourhood(self.rows, self.columns, probe.radius)

    def step(self, features: np.ndarray) -> np.ndarray:  # (rows, columns, channels)
        """Takes the next frame; returns its mask, uint8 `(height, width)`."""
        queries = unit(features.reshape(-1, features.shape[-1]))
        if self.first is None:
            self.first = queries
            labels = self.first_labels
        else:
            labels = self._propagate(queries)
            self.recent.append((queries, labels))
        maps = labels.reshape(self.rows, self.columns, self.num_labels)
        maps = resized(maps, self.size)
        if self.probe.normalize:
            maps = normalized(maps)
        return np.asarray(maps.argmax(axis=-1).astype("uint8"))

    def _propagate(self, queries: np.ndarray) -> np.ndarray:  # (patches, channels)
        """Returns the labels `(patches, labels)` that the earlier frames vote for."""
        assert self.first is not None
        context = [(self.first, self.first_labels), *self.recent]
        cosines = np.concatenate([queries @ keys.T for keys, _ in context], axis=1)
        # (patches, frames x patches)
        far = np.tile(~self.near, (1, len(context)))
        cosines = np.where(far, -np.inf, cosines)
        votes = np.concatenate([labels for _, labels in context])
        # The k-th best counts from the end; what equals it votes too, as in DINO. A
        # still background has such patches: in each frame of the context one.
        place = max(0, cosines.shape[1] - self.probe.top_k)
        least = np.partition(cosines, place, axis=1)[:, place, None]
        highest = cosines.max(axis=1, keepdims=True)
        weights = np.exp((cosines - highest) / self.probe.temperature)
        weights = np.where(cosines < least, 0.0, weights)
        weights /= weights.sum(axis=1, keepdims=True)
        return np.asarray(weights @ votes)


# === Grids ===
def neighbourhood(rows: int, columns: int, radius: int | None) -> np.ndarray:
    """Returns which patches are near which, bool `(patches, patches)`."""
    row, column = np.divmod(np.arange(rows * columns), columns)
    if radius is None:
        return np.ones((rows * columns,) * 2, bool)
    near_rows = np.abs(row[:, None] - row) <= radius
    return np.asarray(near_rows & (np.abs(column[:, None] - column) <= radius))


def nearest(labels: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Returns `(height, width, labels)` in the middle of each patch, flattened.

    The pixel is the one that Pillow's nearest-neighbour resizing takes.
    """
    places = [
        ((np.arange(count) + 0.5) * size / count).astype(int)
        for count, size in zip(grid, labels.shape[:2], strict=True)
    ]
    return np.asarray(labels[np.ix_(*places)].reshape(-1, labels.shape[2]))


def cover(labels: np.ndarray, grid: tuple[int, ...]) -> np.ndarray:
    """Returns the mean of `(height, width, labels)` over each patch, flattened.

    Raises:
        ValueError: if patches do not divide the image.
    """
    (height, width, count), (rows, columns) = labels.shape, grid
    if height % rows or width % columns:
        raise ValueError(
            f"Masks of {height} x {width} pixels have no whole number of pixels for "
            f"each of {rows} x {columns} patches. Give masks of the frames' size."
        )
    blocks = labels.reshape(rows, height // rows, columns, width // columns, count)
    return np.asarray(blocks.mean(axis=(1, 3)).reshape(rows * columns, count))


def resized(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Returns maps `(rows, columns, labels)` at `size`, bilinearly."""
    down, across = (
        resize_matrix(target, source)
        for target, source in zip(size, maps.shape[:2], strict=True)
    )
    return np.asarray(np.einsum("ir,jc,rcl->ijl", down, across, maps, optimize=True))


def normalized(maps: np.ndarray) -> np.ndarray:  # (height, width, labels)
    """Returns each label's map in the range from 0 to 1; constant ones as they are.

    Source: DINO, `norm_mask` of `eval_video_segmentation.py`.
    """
    lowest, highest = maps.min(axis=(0, 1)), maps.max(axis=(0, 1))
    span = highest - lowest
    spread = np.where(span > 0, span, 1.0)
    return np.asarray(np.where(span > 0, (maps - lowest) / spread, maps))


# === Scores ===
def objects_of(mask: np.ndarray) -> list[int]:
    """Returns the numbers of the objects in a first mask."""
    return [int(number) for number in np.unique(mask) if number not in (0, 255)]


def scored_frames(count: int) -> range:
    """Returns the frames that count: DAVIS leaves out the first and the last."""
    return range(1, count - 1) if count > 2 else range(1, count)


def frame_scores(
    predicted: np.ndarray, mask: np.ndarray, objects: list[int]
) -> np.ndarray:
    """Returns J, F and the objects, summed over the objects of a frame.

    An object that is out of sight must not be seen.
    """
    kept = mask != 255
    totals = np.zeros(3)
    for number in objects:
        ours, theirs = (predicted == number) & kept, mask == number
        region = region_score(ours, theirs)
        totals += (region, boundary_score(ours, theirs), 1)
    return totals


def summed(scores: list[np.ndarray]) -> np.ndarray:
    """Returns the means over frames of J and F, summed over objects, and their number.

    A clip counts as often as it has objects, whatever its length.
    """
    return np.asarray(np.mean(scores, axis=0))


def checked_clip(item: Any) -> Clip:
    """Returns a clip with uint8 masks, or says what it lacks.

    Raises:
        ValueError: if it is none, shapes do not fit, or a mask holds other values than
            whole numbers from 0 to 255, naming the first place.
    """
    if not isinstance(item, Clip):
        raise ValueError(f"Tracking needs Clip objects, got {type(item).__name__}.")
    frames, masks = np.asarray(item.frames), np.asarray(item.masks)
    if frames.ndim != 4 or masks.shape != frames.shape[:3] or len(frames) < 2:
        raise ValueError(
            f"Clip {item.name!r}: expected frames (frames, height, width, 3), at least "
            f"two, with one mask each; got {frames.shape} and {masks.shape}."
        )
    if masks.dtype.kind not in "biu":
        raise ValueError(
            f"Clip {item.name!r}: masks have dtype {masks.dtype}, expected whole "
            "numbers from 0 to 255: 0 is background, k the k-th object, 255 is ignored."
        )
    wrong = (masks < 0) | (masks > 255)
    if wrong.any():
        frame, row, column = map(int, np.argwhere(wrong)[0])
        raise ValueError(
            f"Clip {item.name!r}: the mask of frame {frame} holds "
            f"{masks[frame, row, column]} at row {row}, column {column}, and "
            f"{int(wrong.sum()) - 1} more pixels are wrong; expected whole numbers "
            "from 0 to 255. Number the objects of a clip from 1 on."
        )
    masks = masks.astype("uint8", copy=False)
    if not objects_of(masks[0]):
        raise ValueError(f"Clip {item.name!r}: the first mask holds no object.")
    return dataclasses.replace(item, frames=frames, masks=masks)
