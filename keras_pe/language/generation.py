"""Greedy answers to a batch of prompts, with a cache, in one compiled loop."""

import functools
import types
from typing import Any

import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.language.decoder import Decoder
from keras_pe.models.compiled import run_compiled


def generate(  # prompts: (batch, tokens, hidden_dim)
    decoder: Decoder,
    prompts: Any,
    stop_id: int,
    max_tokens: int = 64,
    lengths: Any = None,  # (batch,) int
) -> np.ndarray:
    """Returns the likeliest token after the other, until each prompt has its answer.

    All prompts go on at one place in their caches: what is shorter than another is
    read on, token by token, while that one waits. So answers are those that each prompt
    would have alone.

    Args:
        decoder: that answers.
        prompts: embeddings `(batch, tokens, hidden_dim)`, of words and images, padded
            on the right.
        stop_id: token that ends an answer.
        max_tokens: most tokens of an answer.
        lengths: tokens of each prompt; None for all.

    Returns:
        int32 `(batch, max_tokens)`; after the end of an answer `stop_id`.

    Raises:
        ValueError: if prompts and lengths do not fit, or it would be more than the
            decoder reads.

    Example:
        >>> from keras_pe.language import SmallDecoder
        >>> decoder = SmallDecoder(60, hidden_dim=16, num_layers=1, num_heads=2)
        >>> prompts = decoder.embed(np.array([[1, 2, 3]]))
        >>> generate(decoder, prompts, stop_id=0, max_tokens=4).shape
        (1, 4)
    """
    check_sizes(max_tokens=max_tokens)
    rows, width = prompts.shape[:2]
    lengths = np.full(rows, width) if lengths is None else np.asarray(lengths)
    if lengths.shape != (rows,) or lengths.min() < 1 or lengths.max() > width:
        raise ValueError(
            f"Each prompt needs a length from 1 to {width}, got {lengths} for {rows}."
        )
    if width + max_tokens > decoder.max_length:
        raise ValueError(
            f"The decoder reads at most {decoder.max_length} tokens, got prompts of "
            f"{width} and answers of {max_tokens}."
        )
    if not 0 <= stop_id < decoder.vocabulary_size:
        raise ValueError(
            f"stop_id must be from 0 to {decoder.vocabulary_size - 1}, got {stop_id}."
        )
    options = {"start": int(lengths.min()), "steps": max_tokens, "stop_id": stop_id}
    model: Any = decoder
    loop = functools.partial(types.MethodType(_greedy, decoder), **options)
    arrays = ops.convert_to_tensor(prompts), ops.convert_to_tensor(lengths, "int32")
    key = ("generate", *options.values())
    places = ops.convert_to_numpy(run_compiled(model, key, loop, *arrays))
    return np.stack(
        [row[n : n + max_tokens] for row, n in zip(places, lengths, strict=True)]
    )


def _greedy(
    decoder: Decoder,
    prompts: Any,
    lengths: Any,
    *,
    start: int,
    steps: int,
    stop_id: int,
) -> Any:
    """Returns int32 `(batch, places)`: the token at each place, from `start` on."""
    rows, width = prompts.shape[:2]
    total = width + steps
    hidden, caches = decoder.run_cached(
        prompts[:, :start], decoder.new_caches(rows, total), 0
    )

    def unfinished(index: Any, token: Any, done: Any, places: Any, caches: Any) -> Any:
        return ops.logical_and(index < total, ops.logical_not(ops.all(done)))

    def step(index: Any, token: Any, done: Any, places: Any, caches: Any) -> Any:
        given = index < lengths  # what stands here is still the prompt's
        token = ops.where(done, stop_id, token)
        done = ops.logical_or(
            done, ops.logical_and(ops.logical_not(given), token == stop_id)
        )
        at = ops.stack([ops.zeros_like(index), index])
        places = ops.slice_update(places, at, token[:, None])
        last = ops.minimum(index, width - 1)
        read = ops.take(prompts, last[None], axis=1)  # (batch, 1, channels)
        word = ops.cast(decoder.embed(token[:, None]), read.dtype)
        x = ops.where(given[:, None, None], read, word)
        hidden, caches = decoder.run_cached(x, caches, index)
        return index + 1, _likeliest(decoder, hidden), done, places, caches

    state = (
        ops.convert_to_tensor(start, "int32"),
        _likeliest(decoder, hidden),
        ops.zeros((rows,), "bool"),
        ops.full((rows, total), stop_id, "int32"),
        caches,
    )
    return ops.while_loop(unfinished, step, state)[3]


def _likeliest(decoder: Decoder, hidden: Any) -> Any:  # (batch, tokens, hidden_dim)
    return ops.cast(ops.argmax(decoder.logits(hidden[:, -1]), axis=-1), "int32")
