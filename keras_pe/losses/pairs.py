"""What all losses over picture-text pairs share: checks, float32, logits."""

from collections.abc import Callable
from typing import Any, Literal

from keras import ops

Gather = Callable[[Any], Any]
Duplicates = Literal["negative", "ignore"]

# Stands for the logit of a pair that is left out: differences of two stay finite.
LEFT_OUT = -1e30


def float32_pairs(
    image_embeddings: Any, text_embeddings: Any
) -> tuple[Any, Any]:  # both (batch, channels)
    """Returns both sides in float32.

    Raises:
        ValueError: if they are not two matrices of one shape.
    """
    shapes = [tuple(side.shape) for side in (image_embeddings, text_embeddings)]
    known = all(None not in shape for shape in shapes)
    if any(len(shape) != 2 for shape in shapes) or (known and shapes[0] != shapes[1]):
        raise ValueError(
            f"Image and text embeddings must both be (batch, channels), got {shapes[0]}"
            f" and {shapes[1]}. Row i of one side belongs to row i of the other."
        )
    return ops.cast(image_embeddings, "float32"), ops.cast(text_embeddings, "float32")


def ids_left_out(caption_ids: Any, duplicates: str, batch: int | None) -> Any:
    """Returns the ids whose pairs are left out as int32 `(batch,)`, or None.

    Raises:
        ValueError: if `duplicates` is unknown, or "ignore" comes without its ids.
    """
    if duplicates not in ("negative", "ignore"):
        raise ValueError(
            f'duplicates must be "negative" or "ignore", got {duplicates!r}.'
        )
    if duplicates == "negative":
        return None
    if caption_ids is None:
        raise ValueError(
            'duplicates="ignore" needs caption_ids: (batch,) integers, equal where '
            "captions are equal."
        )
    caption_ids = ops.cast(caption_ids, "int32")
    shape = tuple(caption_ids.shape)
    if len(shape) != 1 or (None not in (shape[0], batch) and shape[0] != batch):
        raise ValueError(
            f"caption_ids must be (batch,) = ({batch},), got {shape}: one for each "
            f"row of the text embeddings."
        )
    return caption_ids


def gathered(x: Any, gather: Gather | None) -> Any:  # (local_batch, ...)
    """Returns the rows of all devices; without `gather`, the ones given."""
    return x if gather is None or x is None else gather(x)


def pair_logits(
    queries: Any,  # (rows, channels)
    keys: Any,  # (keys, channels)
    logit_scale: Any,
    key_ids: Any = None,  # (keys,)
    query_ids: Any = None,  # (rows,)
) -> Any:
    """Returns the logits `(rows, keys)`; pairs of equal ids get `LEFT_OUT`."""
    logits = ops.matmul(queries * logit_scale, ops.transpose(keys))
    if query_ids is None:
        return logits
    same = ops.equal(query_ids[:, None], key_ids[None, :])
    return ops.where(same, LEFT_OUT, logits)
