"""Clips by the mean of their frames, and what else a mean can be taken of.

Scores of the first frame alone say whether several frames are needed; those of frames
in another order show that a mean cannot tell one order from another.
"""

from collections.abc import Iterator

import numpy as np

from keras_pe.arrays import check_finite

BLIND = (
    "Perception Encoder averages the embeddings of frames, which no order can change: "
    "shuffled and reversed clips get the scores of the clips as they are. Where order "
    "matters, zero-shot scores cannot show it; a head on the frames can."
)


def mean_of_frames(frames: np.ndarray) -> np.ndarray:
    """Returns clips' embeddings of unit length: the means of those of their frames.

    Args:
        frames: of unit length or not, `(clips, frames, channels)`.

    Returns:
        float32 `(clips, channels)`, as `PECore.encode_video` has them. Sums are
        float64, so that another order of frames gives the same to float32's last bit.

    Raises:
        ValueError: if there are no such axes, no frames or no real numbers.
        NonFiniteError: naming the first clip that holds NaN or infinity.

    Example:
        >>> mean_of_frames(np.array([[[3.0, 0.0], [0.0, 4.0]]])).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    frames = _checked(frames)
    if frames.dtype.kind not in "fiu":
        raise ValueError(f"frames is of {frames.dtype}: expected real numbers.")
    mean = frames.mean(axis=1, dtype="float64")
    check_finite(mean, "means of frames", "clip")
    length = np.linalg.norm(mean, axis=1, keepdims=True)
    return np.asarray((mean / np.maximum(length, 1e-12)).astype("float32"))


def frame_orders(frames: np.ndarray, seed: int = 0) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what a score of clips can be computed of, by name.

    Args:
        frames: embeddings, `(clips, frames, channels)`.
        seed: of the shuffle, which is the same for all clips, and another order
            wherever there are two frames.

    Yields:
        "first frame", "all frames", "shuffled" and "reversed", with arrays of the same
        kind; the first has one frame.

    Raises:
        ValueError: if there are no such axes, or no frames.

    Example:
        >>> frames = np.arange(3.0)[None, :, None]    # one clip of three frames
        >>> for name, some in frame_orders(frames):
        ...     print(name, some.ravel().tolist())
        first frame [0.0]
        all frames [0.0, 1.0, 2.0]
        shuffled [2.0, 0.0, 1.0]
        reversed [2.0, 1.0, 0.0]
    """
    frames = _checked(frames)
    count = frames.shape[1]
    # Of few frames a draw may well be the order itself.
    rng, order = np.random.default_rng(seed), np.arange(count)
    mixed = rng.permuted(order)
    while count > 1 and (mixed == order).all():
        mixed = rng.permuted(order)
    yield "first frame", frames[:, :1]
    yield "all frames", frames
    yield "shuffled", frames[:, mixed]
    yield "reversed", frames[:, ::-1]


def _checked(frames: np.ndarray) -> np.ndarray:
    array = np.asarray(frames)
    if array.ndim != 3 or not array.shape[1]:
        raise ValueError(
            f"frames has shape {array.shape}: expected (clips, frames, channels), of "
            f"one frame or more. A single clip is frames[None]."
        )
    return array
