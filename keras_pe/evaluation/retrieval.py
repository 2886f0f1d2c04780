"""Image-text and video-text retrieval: recall at k in both directions."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import checked_embeddings
from keras_pe.evaluation.equal_texts import (
    Equals,
    check_equals,
    equal_groups,
    equal_texts,
    firsts,
    scores_of_equals,
    warn_of_equals,
)
from keras_pe.evaluation.evaluation_result import EvaluationResult, package_versions
from keras_pe.evaluation.hashes import data_hash, weights_hash
from keras_pe.evaluation.intervals import NUM_RESAMPLES, Score, mean_score
from keras_pe.evaluation.ranks import CHUNK_SIZE, Matches, match_ranks
from keras_pe.evaluation.sample_embedder import (
    SampleEmbedder,
    VideoProtocol,
    check_modes,
    shared_protocol,
    video_of_task,
)
from keras_pe.models.core import PECore
from keras_pe.models.embedding import embed_texts
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer

KS = (1, 5, 10)


def retrieval_recall(  # both (pairs, channels), unit length
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    captions: Sequence[object] | None = None,
    ks: Sequence[int] = KS,
    chunk_size: int = CHUNK_SIZE,
) -> dict[str, float]:
    """Returns how often a match is among the k nearest, both ways.

    Row i of one side belongs to row i of the other. Rows with equal captions count as
    each other's matches. The similarity matrix is never held whole.

    Args:
        image_embeddings: `(pairs, channels)`, unit length, any floating dtype.
            Similarities are computed in float32.
        text_embeddings: `(pairs, channels)`, unit length.
        captions: one hashable a pair; equal ones match each other. None: all differ.
        ks: the numbers of neighbours.
        chunk_size: rows of the similarity matrix held at once.

    Returns:
        `image_to_text_recall_at_1` and so on, shares of all pairs.

    Raises:
        ValueError: if there are no pairs, the shapes do not fit together, `ks` are no
            whole numbers from 1 on, or embeddings are no floating-point numbers, such
            as quantised ones.
        NonFiniteError: naming the first image or text that is NaN or infinite.

    Source: Perception Encoder, table 5 (COCO and Flickr retrieval).

    Example:
        >>> retrieval_recall(np.eye(4), np.eye(4), ks=(1,))
        {'image_to_text_recall_at_1': 1.0, 'text_to_image_recall_at_1': 1.0}
    """
    image_embeddings = np.asarray(image_embeddings)
    text_embeddings = np.asarray(text_embeddings)
    if image_embeddings.shape != text_embeddings.shape or image_embeddings.ndim != 2:
        raise ValueError(
            f"Expected two arrays (pairs, channels) of one shape, got "
            f"{image_embeddings.shape} and {text_embeddings.shape}."
        )
    pairs = len(image_embeddings)
    if not pairs:
        raise ValueError("There are no pairs: nothing to score.")
    _check_ks(ks)
    if captions is not None and len(captions) != pairs:
        raise ValueError(f"Expected {pairs} captions, one a pair, got {len(captions)}.")
    matches = Matches(pairs, np.arange(pairs), captions)
    ranks = both_ranks(image_embeddings, text_embeddings, matches, chunk_size)
    return {
        f"{name}_recall_at_{k}": float((rank < k).mean())
        for name, rank in ranks.items()
        for k in ks
    }


def both_ranks(  # (images, channels), (texts, channels)
    image_embeddings: np.ndarray,
    text_embeddings: np.ndarray,
    matches: Matches,
    chunk_size: int = CHUNK_SIZE,
    dsl_scale: float | None = None,
) -> dict[str, np.ndarray]:
    """Ranks the best match of each image and each text; see `match_ranks`.

    Args:
        image_embeddings: `(images, channels)`.
        text_embeddings: `(texts, channels)`.
        matches: which belong together.
        chunk_size: rows of the similarity matrix held at once.
        dsl_scale: of the re-weighting, over the queries of each direction. None: none.

    Returns:
        "image_to_text": int64 `(images,)`; "text_to_image": int64 `(texts,)`.

    Raises:
        NonFiniteError: naming the first image or text that is NaN or infinite.
    """
    image_embeddings = checked_embeddings(image_embeddings, "image embeddings", "image")
    text_embeddings = checked_embeddings(text_embeddings, "text embeddings", "text")
    options = chunk_size, dsl_scale
    return {
        "image_to_text": match_ranks(
            image_embeddings, text_embeddings, matches.of_images, *options
        ),
        "text_to_image": match_ranks(
            text_embeddings, image_embeddings, matches.of_texts, *options
        ),
    }


def evaluate_retrieval(
    model: PECore,
    tokenizer: PETokenizer,
    images: Sequence[Any],
    texts: Sequence[str | Sequence[str]],
    images_of_text: Sequence[int | Sequence[int]] | None = None,
    dsl_scale: float | None = None,
    ks: Sequence[int] = KS,
    resize_modes: Sequence[str] = ("squash", "center_crop"),
    image_converter: PEImageConverter | None = None,
    video: VideoProtocol | None = None,
    batch_size: int = 32,
    chunk_size: int = CHUNK_SIZE,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    max_skipped_share: float = 0.01,
    hash_contents: bool = True,
    progress: bool = False,
    equal_tokens: Equals = "separate",
) -> EvaluationResult:
    """Evaluates retrieval of texts by images and of images by texts.

    A query counts as found if any of its matches is among the first k. Equal texts
    share their images. Texts are used as they are, without prompts.

    Args:
        model: a `PECore`.
        tokenizer: the model's `PETokenizer`.
        images: paths or whatever `PEImageConverter` takes; videos with `video`.
        texts: without `images_of_text`: for each image its caption, or a list of
            them. With it: all texts.
        images_of_text: for each text the place of its image, or of several.
        dsl_scale: scale of the re-weighting `scores * softmax(scale * scores)` over
            the queries. Upstream does it by default, with 1.0. None: plain cosines.
        ks: the numbers of neighbours.
        resize_modes: "squash", "center_crop" or both.
        image_converter: how images are prepared, but for the resize mode; None makes
            one of the model's size.
        video: how videos are embedded; None: these are images.
        batch_size: images, frames or texts a forward pass.
        chunk_size: rows of the similarity matrix held at once.
        seed: of the bootstrap. Images are drawn with all of their texts.
        num_resamples: number of draws.
        max_skipped_share: share of unreadable images that stops the run. Texts that
            belong to skipped images alone are left out with them.
        hash_contents: whether `data_hash` reads all files, or names and sizes.
        progress: whether a progress bar is shown.
        equal_tokens: what texts are that differ, but not to the tokenizer, such as "An
            owl" and "an owl": "separate" as in upstream, which compares strings, or one
            text that gets the "credit" for the images of both. They are named in a
            warning and in the protocol.

    Returns:
        An `EvaluationResult` with `image_to_text_recall_at_1` and so on.

    Raises:
        ValueError: if arguments do not fit together.
        ImageError: if too many images can't be read.
        NonFiniteError: if the model gives NaN or infinity, naming for which image or
            text.

    Source: Perception Encoder, section 2.2 and appendix B.1.2; upstream
    `zeroshot_retrieval.py`.

    Example:
        >>> from importlib.resources import files
        >>> preset = "pe_core_emoji_small_patch8_64"
        >>> model = PECore.from_preset(preset)
        >>> tokenizer = PETokenizer.from_preset(preset)
        >>> folder = files("keras_pe") / "cli" / "demo_images"
        >>> images = [folder / "owl.png", folder / "guitar.png"]
        >>> texts = [["an owl", "a drawing of an owl"], ["a guitar"]]
        >>> result = evaluate_retrieval(model, tokenizer, images, texts, ks=(1,))
        >>> result.best["text_to_image_recall_at_1"].value
        1.0
    """
    modes = check_modes(resize_modes)
    flat, places = _flat_texts(texts, images_of_text, len(images))
    Matches(len(images), places, flat)  # complains before hours of work
    _check_options(ks, chunk_size, dsl_scale)
    check_equals(equal_tokens, "equal_tokens")
    video = video_of_task(video, average="normalized", unit_length=False)
    embedder = SampleEmbedder(
        model, image_converter, video, batch_size, max_skipped_share, progress
    )
    kept, embeddings, report = embedder.embed_modes(images, modes)
    kept_texts, kept_places = _without_skipped(places, kept)
    kept_flat = [flat[i] for i in kept_texts]
    text_embeddings = embed_texts(
        model, tokenizer, kept_flat, min(batch_size, max(1, len(kept_flat)))
    )
    first = equal_texts(tokenizer, kept_flat)
    text_embeddings = text_embeddings[first]  # ties to the last bit
    # Of each string one: equal strings are one text anyway.
    strings = np.unique(firsts(kept_flat))
    groups = [strings[g].tolist() for g in equal_groups(first[strings])]
    warn_of_equals("texts", kept_flat, groups, scores_of_equals("equal_tokens"))
    keys = first.tolist() if equal_tokens == "credit" else kept_flat
    matches = Matches(len(kept), kept_places, keys)
    owners = {
        "image_to_text": np.arange(len(kept)),
        "text_to_image": np.array([several[0] for several in kept_places]),
    }
    scores: dict[str, dict[str, Score]] = {}
    for mode in modes:
        ranks = both_ranks(
            embeddings[mode], text_embeddings, matches, chunk_size, dsl_scale
        )
        scores[mode] = {
            f"{name}_recall_at_{k}": mean_score(
                rank < k, owners[name], seed, num_resamples
            )
            for name, rank in ranks.items()
            for k in ks
        }
    truncation = getattr(tokenizer, "last_report", None)
    return EvaluationResult(
        task="video-text retrieval" if video else "image-text retrieval",
        protocol={
            "resize_modes": list(modes),
            "converter": embedder.settings,
            "video": dataclasses.asdict(video) if video else None,
            "dsl_scale": None if dsl_scale is None else float(dsl_scale),
            "num_texts": len(flat),
            "scored_texts": len(kept_flat),
            "equal_tokens": equal_tokens,
            "equal_texts": [[kept_texts[i] for i in group] for group in groups],
            "truncated_texts": truncation.num_truncated if truncation else 0,
            **shared_protocol(
                model,
                tokenizer,
                len(images),
                batch_size,
                num_resamples,
                max_skipped_share,
                hash_contents,
            ),
        },
        scores=scores,
        chosen_by=f"text_to_image_recall_at_{min(ks)}",
        weights_hash=weights_hash(model),
        data_hash=data_hash(images, [flat, places], hash_contents),
        seed=int(seed),
        num_samples=len(kept),
        skipped=tuple(report.skipped),
        versions=package_versions(),
    )


def _flat_texts(
    texts: Sequence[str | Sequence[str]],
    images_of_text: Sequence[int | Sequence[int]] | None,
    num_images: int,
) -> tuple[list[str], list[list[int]]]:
    """Returns all texts, and for each the places of its images."""
    flat: list[str] = []
    places: list[list[int]] = []
    if isinstance(texts, str):
        raise ValueError(f"texts={texts!r:.60}: expected a list of texts.")
    if images_of_text is None:
        if len(texts) != num_images:
            raise ValueError(
                f"Expected the captions of each of {num_images} images, got "
                f"{len(texts)}. For a flat list of texts give images_of_text."
            )
        for image, captions in enumerate(texts):
            several: list[Any] = [captions]  # if it is no text, that is said below
            if not isinstance(captions, str) and isinstance(captions, Iterable):
                several = list(captions)
            flat += several
            places += [[image]] * len(several)
    else:
        flat = list(texts)  # type: ignore[arg-type]
        places = [np.atleast_1d(several).tolist() for several in images_of_text]
    wrong = [text for text in flat if not isinstance(text, str)]
    if wrong or not flat:
        raise ValueError(
            f"Expected at least one text, and texts only, got {wrong[:1] or 'none'}."
        )
    return flat, places


def _without_skipped(
    places: list[list[int]], kept: np.ndarray
) -> tuple[list[int], list[list[int]]]:
    """Returns the texts that are left, and their images, counted anew."""
    new_place = {int(old): new for new, old in enumerate(kept)}
    texts, renumbered = [], []
    for text, several in enumerate(places):
        left = [new_place[image] for image in several if image in new_place]
        if left:
            texts.append(text)
            renumbered.append(left)
    return texts, renumbered


def _check_ks(ks: Sequence[int]) -> None:
    whole = [isinstance(k, int | np.integer) and not isinstance(k, bool) for k in ks]
    if not whole or not all(whole) or min(ks) < 1:
        raise ValueError(f"ks={ks!r}: expected whole numbers of at least 1.")


def _check_options(ks: Sequence[int], chunk_size: int, dsl_scale: float | None) -> None:
    _check_ks(ks)
    one = np.ones((1, 1), "float32")
    match_ranks(one, one, Matches(1, [0]).of_texts, chunk_size, dsl_scale)
