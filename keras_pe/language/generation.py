"""Greedy answers to a batch of prompts, with a cache, in one compiled loop."""

import functools
import types
from typing import Any

import numpy as np
from keras import ops

from keras_pe.arrays import NonFiniteError, check_sizes, is_whole
from keras_pe.language.decoder import Decoder, check_length, checked_tokens
from keras_pe.models.compiled import run_compiled


def generate(  # prompts: (batch, tokens, hidden_dim)
    decoder: Decoder,
    prompts: Any,
    stop_id: int,
    max_tokens: int = 64,
    lengths: Any = None,  # (batch,) int
    no_repeat: int | None = None,
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
        no_repeat: no run of so many tokens comes twice in an answer: the likeliest
            token that would make one is passed over, and an answer that could only
            go on with one ends. None allows it.

    Returns:
        int32 `(batch, max_tokens)`; after the end of an answer `stop_id`.

    Raises:
        ValueError: if prompts are no embeddings, they and lengths do not fit, or it
            would be more than the decoder reads.
        NonFiniteError: naming the first prompt whose logits are not finite.

    Example:
        >>> from keras_pe.language import SmallDecoder
        >>> decoder = SmallDecoder(60, hidden_dim=16, num_layers=1, num_heads=2)
        >>> prompts = decoder.embed(np.array([[1, 2, 3]]))
        >>> generate(decoder, prompts, stop_id=0, max_tokens=4).shape
        (1, 4)
    """
    check_sizes(max_tokens=max_tokens)
    if no_repeat is not None:
        check_sizes(no_repeat=no_repeat)
    prompts = _embeddings(prompts)
    rows, width = prompts.shape[0], checked_tokens(decoder, prompts.shape)
    lengths = np.full(rows, width) if lengths is None else np.asarray(lengths)
    whole = lengths.dtype.kind in "iu" and lengths.shape == (rows,)
    if not rows or not whole or lengths.min() < 1 or lengths.max() > width:
        raise ValueError(
            f"There must be prompts, each with a length from 1 to {width}, got {rows} "
            f"and lengths {lengths}."
        )
    check_length(decoder, width + max_tokens, "of prompt and answer")
    if not is_whole(stop_id) or not 0 <= stop_id < decoder.vocabulary_size:
        raise ValueError(
            f"stop_id must be from 0 to {decoder.vocabulary_size - 1}, got {stop_id!r}."
        )
    if no_repeat is not None and no_repeat >= max_tokens:
        no_repeat = None  # no answer is long enough for two of them
    options = {"steps": max_tokens, "stop_id": stop_id, "no_repeat": no_repeat}
    model: Any = decoder
    loop = functools.partial(types.MethodType(_greedy, decoder), **options)
    key = ("generate", *options.values())
    length = ops.convert_to_tensor(lengths, "int32")
    found = run_compiled(model, key, loop, prompts, length)
    places, finite = map(ops.convert_to_numpy, found)
    if not finite.all():
        raise NonFiniteError(
            f"The logits of prompt {int(finite.argmin())} of {rows} are not finite: "
            f"look at its embeddings, and at the weights of {model.name}."
        )
    return np.stack(
        [row[n : n + max_tokens] for row, n in zip(places, lengths, strict=True)]
    )


def _embeddings(prompts: Any) -> Any:
    """Returns prompts as a tensor; backends stop at words or nothing in a sentence."""
    given = prompts if hasattr(prompts, "dtype") else np.asarray(prompts)
    if getattr(given.dtype, "kind", "f") in "OSTUb":
        raise ValueError(
            f"Expected embeddings (batch, tokens, channels), got a "
            f"{type(prompts).__name__}. Words become embeddings by embed(), questions "
            f"by VisionLanguageModel."
        )
    return ops.convert_to_tensor(given)


def _greedy(
    decoder: Decoder,
    prompts: Any,
    lengths: Any,
    *,
    steps: int,
    stop_id: int,
    no_repeat: int | None,
) -> Any:
    """Returns the token at each place behind the shortest prompt, and what is sound.

    Int32 `(batch, places)`, and bool `(batch,)`: whether all logits were finite. The
    prompts are read whole, so that what is compiled does not depend on their lengths:
    no token sees those behind it, and padding is written over before one does.
    """
    rows, width = prompts.shape[:2]
    total, start = width + steps, ops.min(lengths)
    # NaN in padding would not stay there: a value is multiplied by a weight of 0.
    known = ops.arange(width, dtype="int32")[None] < lengths[:, None]
    prompts = ops.where(known[..., None], prompts, ops.zeros_like(prompts))
    hidden, caches = decoder.run_cached(prompts, decoder.new_caches(rows, total), 0)
    hidden = ops.take(hidden, (start - 1)[None], axis=1)

    def unfinished(index: Any, best: Any, done: Any, places: Any, caches: Any) -> Any:
        return ops.logical_and(index < total, ops.logical_not(ops.all(done)))

    def step(index: Any, best: Any, done: Any, places: Any, caches: Any) -> Any:
        given = index < lengths  # what stands here is still the prompt's
        token, finite = best
        token = ops.where(done, stop_id, token)
        ends = ops.logical_and(ops.logical_not(given), token == stop_id)
        full = index + 1 >= lengths + steps
        done = ops.logical_or(done, ops.logical_or(ends, full))
        at = ops.stack([ops.zeros_like(index), index])
        places = ops.slice_update(places, at, token[:, None])
        last = ops.minimum(index, width - 1)
        read = ops.take(prompts, last[None], axis=1)  # (batch, 1, channels)
        word = ops.cast(decoder.embed(token[:, None]), read.dtype)
        x = ops.where(given[:, None, None], read, word)
        hidden, caches = decoder.run_cached(x, caches, index)
        barred = None
        if no_repeat is not None:
            barred = _would_repeat(
                places, lengths, index, no_repeat, decoder.vocabulary_size
            )
        token, sound = _likeliest(decoder, hidden, barred)
        best = token, ops.logical_and(finite, sound)
        return index + 1, best, done, places, caches

    state = (
        ops.cast(start, "int32"),
        _likeliest(decoder, hidden),
        ops.zeros((rows,), "bool"),
        ops.full((rows, total), stop_id, "int32"),
        caches,
    )
    _, (_, finite), _, places, _ = ops.while_loop(unfinished, step, state)
    return places, finite


def _likeliest(
    decoder: Decoder,
    hidden: Any,  # (batch, tokens, hidden_dim)
    barred: Any = None,  # (batch, vocabulary) bool
) -> Any:
    """Returns the likeliest token after the last, and whether logits are finite."""
    logits = decoder.logits(hidden[:, -1])  # (batch, vocabulary)
    finite = ops.isfinite(ops.sum(logits, axis=-1))
    if barred is not None:
        logits = ops.where(barred, ops.full_like(logits, -np.inf), logits)
    return ops.cast(ops.argmax(logits, axis=-1), "int32"), finite


def _would_repeat(
    places: Any,  # (batch, places) int32
    lengths: Any,  # (batch,) int32
    index: Any,
    run: int,
    vocabulary: int,
) -> Any:
    """Returns which tokens, behind place `index`, would end a run that was there.

    Bool `(batch, vocabulary)`. A run begins in the answer, and may overlap its copy.
    """
    rows, total = places.shape
    starts = ops.arange(total, dtype="int32")
    same = ops.logical_and(  # runs of the answer whose last token stands already
        starts[None] >= lengths[:, None], (starts + run - 1 <= index)[None]
    )
    behind = [starts + offset for offset in range(run)]
    for offset, place in enumerate(behind[:-1]):
        written = ops.take(places, ops.minimum(place, total - 1), axis=1)
        newest = ops.maximum(index - run + 2 + offset, 0)
        latest = ops.take(places, newest[None], axis=1)
        same = ops.logical_and(same, written == latest)
    ends = ops.take(places, ops.minimum(behind[-1], total - 1), axis=1)
    # What is no run that came before bars a token that is none.
    ends = ops.where(same, ends, vocabulary)
    row = ops.broadcast_to(ops.arange(rows, dtype="int32")[:, None], (rows, total))
    at = ops.stack([ops.reshape(row, (-1,)), ops.reshape(ends, (-1,))], axis=1)
    found = ops.zeros((rows, vocabulary + 1), "int32")
    found = ops.scatter_update(found, at, ops.ones((rows * total,), "int32"))
    return found[:, :-1] > 0
