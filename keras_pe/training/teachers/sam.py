"""SAM's mask logits of a grid of points: what says which patches belong together."""

import functools
import types
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes, release_freed_memory
from keras_pe.losses.row_chunks import fold_row_chunks
from keras_pe.models.compiled import no_gradient, run_compiled
from keras_pe.training.teachers.given import given_grid, given_images

Keep = int | Literal["best", "smallest"]


class SamTeacher:
    """Says of each patch how much it lies in the mask that SAM gives for each point.

    Masks are raw logits: none is dropped, merged or cut off, so that they can be
    averaged over patches. Images are scaled to SAM's own size, as squares. They and the
    points are taken one by one, or a few at a time, so that memory depends on the
    number of neither.

    In a step that is compiled, JAX and TensorFlow compile SAM along; where that takes
    too long, or batches are spread over devices, `with_mask_rows` adds the masks before
    the step.

    Args:
        sam: KerasHub's `SAMImageSegmenter`, or the `SAMBackbone` in one, which takes
            images in [0, 1]. It is frozen by this.
        points: prompts along each side of an image: the paper's 32 are 1,024 masks.
        chunk: points at a time. Of SAM's published sizes each takes some 50 MB.
        keep: which of the masks of a point. 0: the one that SAM gives where it is to
            give one alone; 1 to 3: one of those for points that may mean several
            things; of these, "best" by the quality that SAM foresees, or "smallest" of
            those above 0 anywhere.

    Raises:
        TypeError: if `sam` is neither.
        ValueError: if an option makes no sense or the mask decoder has no weights.

    Source: Perception Encoder, section 5.2 and appendix B.3.1, which uses SAM 2.1 and
        does not say which mask is kept. Kirillov et al. 2023, "Segment Anything".

    Example:
        A very small SAM in place of `SamTeacher.from_preset("sam_large_sa1b")`:

        >>> import keras_hub
        >>> encoder = keras_hub.models.ViTDetBackbone(hidden_size=16, num_layers=1,
        ...     intermediate_dim=32, num_heads=2, global_attention_layer_indices=[0],
        ...     patch_size=16, num_output_channels=16, window_size=2,
        ...     image_shape=(64, 64, 3))
        >>> prompts = keras_hub.layers.SAMPromptEncoder(hidden_size=16,
        ...     image_embedding_size=(4, 4), input_image_size=(64, 64),
        ...     mask_in_channels=16)
        >>> masks = keras_hub.layers.SAMMaskDecoder(num_layers=1, hidden_size=16,
        ...     intermediate_dim=32, num_heads=2, embedding_dim=16,
        ...     num_multimask_outputs=3, iou_head_depth=2, iou_head_hidden_dim=8)
        >>> sam = keras_hub.models.SAMImageSegmenter(
        ...     keras_hub.models.SAMBackbone(encoder, prompts, masks))
        >>> teacher = SamTeacher(sam, points=3)    # nine masks an image
        >>> images = np.zeros((2, 128, 128, 3), "float32")
        >>> tuple(teacher(images, grid=(8, 8)).shape)
        (2, 8, 8, 9)
    """

    def __init__(
        self, sam: Any, points: int = 32, chunk: int = 64, keep: Keep = 0
    ) -> None:
        check_sizes(points=points, chunk=chunk)
        backbone = getattr(sam, "backbone", sam)
        parts = ("image_encoder", "prompt_encoder", "mask_decoder")
        if not all(hasattr(backbone, part) for part in parts):
            raise TypeError(
                f"sam must be a SAMImageSegmenter or a SAMBackbone of KerasHub, got "
                f"{type(sam).__name__}."
            )
        masks = backbone.mask_decoder.num_mask_tokens
        if keep not in (*range(masks), "best", "smallest") or keep is False:
            raise ValueError(
                f'keep must be 0 to {masks - 1}, "best" or "smallest", got {keep!r}.'
            )
        if not backbone.mask_decoder.built:
            raise ValueError(
                "The mask decoder has no weights yet: a SAMBackbone alone reads none "
                "for it. Give the SAMImageSegmenter, or the backbone of one."
            )
        self.sam = _Parts(backbone)
        self.points, self.chunk, self.keep = points, chunk, keep
        # What a preset does to 0 ... 255; the encoder itself knows ImageNet's colours.
        preprocessor = getattr(sam, "preprocessor", None)
        converter = getattr(preprocessor, "image_converter", None)
        self.scale = _numbers(getattr(converter, "scale", None), 1 / 255)
        self.offset = _numbers(getattr(converter, "offset", None), 0.0)

    @classmethod
    def from_preset(cls, handle: str, **options: Any) -> "SamTeacher":
        """Returns one of a preset, which KerasHub reads.

        Args:
            handle: "sam_base_sa1b", "sam_large_sa1b", "sam_huge_sa1b", a folder, or
                what else KerasHub takes.
            **options: as of the class.

        Raises:
            ImportError: if KerasHub is not installed.
        """
        try:
            import keras_hub
        except ImportError as error:
            raise ImportError(
                f"SAM comes from KerasHub: pip install keras-hub. ({error})"
            ) from error
        return cls(keras_hub.models.SAMImageSegmenter.from_preset(handle), **options)

    @property
    def models(self) -> tuple[keras.Layer, ...]:
        """What it is made of; no part of a run's checkpoint."""
        return (self.sam,)

    def __call__(  # images: (batch, height, width, 3) in [-1, 1]
        self, images: Any, grid: tuple[int, int]
    ) -> Any:
        """Returns `(batch, rows, columns, points * points)`, as constants.

        Points are in the order of rows, then columns; a patch has the mean of each
        point's logits over its area.

        Raises:
            ValueError: if images or grid are none, see `given.py`.
        """
        images = given_images(images)
        options = {
            "grid": given_grid(grid),
            "points": self.points,
            "chunk": self.chunk,
            "keep": self.keep,
            "scale": self.scale,
            "offset": self.offset,
        }
        method = functools.partial(types.MethodType(_masks, self.sam), **options)
        key = ("sam_teacher", *options.values())
        with no_gradient():
            images = ops.convert_to_tensor(images, "float32")
            return ops.stop_gradient(run_compiled(self.sam, key, method, images))


class _Parts(keras.Layer):
    """The parts of a `SAMBackbone`, frozen.

    Of a backbone Keras knows the mask decoder's weights on TensorFlow alone.
    """

    def __init__(self, backbone: Any) -> None:
        super().__init__()
        self.image_encoder = backbone.image_encoder
        self.prompt_encoder = backbone.prompt_encoder
        self.mask_decoder = backbone.mask_decoder
        self.trainable = False  # now, that it reaches the parts
        self.built = True


def _masks(
    sam: Any,
    images: Any,
    *,
    grid: tuple[int, int],
    points: int,
    chunk: int,
    keep: Keep,
    scale: tuple[float, ...],
    offset: tuple[float, ...],
) -> Any:
    """Returns what `SamTeacher` does."""
    height, width = sam.image_encoder.input.shape[1:3]
    prompts = _point_grid(points, height, width)

    def of_image(image: Any) -> Any:  # (height, width, 3)
        image = ops.image.resize(
            image[None], (height, width), antialias=True, data_format="channels_last"
        )
        factor, shift = (ops.convert_to_tensor(x, "float32") for x in (scale, offset))
        colours = (image + 1.0) * 127.5 * factor + shift
        # Of one image alone: the decoder repeats it for each prompt.
        encoded = sam.image_encoder(colours, training=False)

        def step(totals: Any, rows: list[Any]) -> Any:
            logits, quality = point_logits(sam, encoded, rows[0])
            kept = _kept(logits, quality, grid, keep)
            release_freed_memory(kept)
            return totals, [kept]

        cells = grid[0] * grid[1]
        _, (masks,) = fold_row_chunks(
            step, (), [ops.convert_to_tensor(prompts)], chunk, [(cells,)]
        )
        return ops.reshape(ops.transpose(masks), (*grid, points**2))

    return _one_by_one(of_image, images)


def point_logits(
    sam: Any,
    encoded: Any,  # (1, height / patch, width / patch, channels)
    points: Any,  # (points, 2)
) -> tuple[Any, Any]:
    """Returns the mask logits of points of one image, and their foreseen quality.

    Args:
        sam: KerasHub's `SAMBackbone`, or what has its three parts.
        encoded: what its image encoder says of the image.
        points: x and y in pixels of the encoder's images.

    Returns:
        float32 `(points, masks, height / 4, width / 4)`, at the published patch size,
        and `(points, masks)`, the predicted intersection over union.
    """
    count = points.shape[0]
    # A point without a box needs a second one, of label -1, which is none.
    prompts = sam.prompt_encoder(
        points=ops.stack([points, ops.zeros_like(points)], axis=1),
        labels=ops.tile(np.array([[1.0, -1.0]], "float32"), (count, 1)),
        boxes=ops.zeros((count, 0, 2, 2)),
        masks=ops.zeros((count, 0, 1, 1, 1)),
    )
    found = sam.mask_decoder(image_embeddings=encoded, **prompts)
    return ops.cast(found["masks"], "float32"), ops.cast(found["iou_pred"], "float32")


def _kept(logits: Any, quality: Any, grid: tuple[int, int], keep: Keep) -> Any:
    """Returns `(points, rows * columns)`: one mask of each point, by patches."""
    rows, columns = (
        ops.convert_to_tensor(_shares(size, cells))
        for size, cells in zip(logits.shape[2:], grid, strict=True)
    )
    logits = logits[:, keep : keep + 1] if isinstance(keep, int) else logits[:, 1:]
    pooled = ops.matmul(rows, ops.matmul(logits, ops.transpose(columns)))
    if isinstance(keep, int):
        kept = pooled[:, 0]
    else:
        if keep == "smallest":
            area = ops.sum(ops.cast(logits > 0, "float32"), axis=(2, 3))
            quality = -ops.where(area == 0, np.inf, area)
        else:
            quality = quality[:, 1:]
        chosen = ops.argmax(quality, axis=1)[:, None, None, None]
        kept = ops.take_along_axis(pooled, chosen, axis=1)[:, 0]
    return ops.reshape(kept, (-1, grid[0] * grid[1]))


def _shares(size: int, cells: int) -> np.ndarray:
    """Returns `(cells, size)`: the share of each of `size` pixels in a cell's mean."""
    edges = np.linspace(0, size, cells + 1)
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(
        edges[:-1, None], pixels
    )
    shares: np.ndarray = (np.maximum(overlap, 0) * cells / size).astype("float32")
    return shares


def _point_grid(points: int, height: int, width: int) -> np.ndarray:
    """Returns x and y of the points `(points * points, 2)` in the middle of cells."""
    middles = (np.arange(points, dtype="float32") + 0.5) / points
    y, x = np.meshgrid(middles * height, middles * width, indexing="ij")
    return np.stack([x.ravel(), y.ravel()], axis=1)


def _one_by_one(function: Any, rows: Any) -> Any:
    if keras.backend.backend() != "tensorflow":
        return ops.map(function, rows)
    import tensorflow as tf  # Keras has ten of them run at the same time

    return tf.map_fn(
        function, rows, fn_output_signature=tf.float32, parallel_iterations=1
    )


def _numbers(value: Any, default: float) -> tuple[float, ...]:
    """Returns a number, or one for each colour, as what can be a key."""
    value = default if value is None else value
    return tuple(float(x) for x in np.atleast_1d(value))
