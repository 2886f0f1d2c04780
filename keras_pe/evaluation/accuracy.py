"""Zero-shot classification of a labelled data set, with the paper's protocol."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_finite, checked_embeddings
from keras_pe.evaluation.equal_texts import (
    Equals,
    check_equals,
    equal_classes,
    equal_groups,
    scores_of_equals,
    warn_of_equals,
)
from keras_pe.evaluation.evaluation_result import EvaluationResult, package_versions
from keras_pe.evaluation.hashes import data_hash, weights_hash
from keras_pe.evaluation.intervals import (
    NUM_RESAMPLES,
    Score,
    class_mean_score,
    mean_score,
)
from keras_pe.evaluation.ranks import UNIT_LENGTH, Gallery
from keras_pe.evaluation.sample_embedder import (
    SampleEmbedder,
    VideoProtocol,
    check_modes,
    shared_protocol,
    video_of_task,
)
from keras_pe.evaluation.zero_shot import checked_class_names
from keras_pe.models.core import PECore
from keras_pe.models.embedding import class_vectors
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.prompts import prompt_templates
from keras_pe.preprocessing.tokenizer import PETokenizer

TOP_K = 5
_CHUNK = 1 << 22  # similarities held at once


def evaluate_zero_shot(
    model: PECore,
    tokenizer: PETokenizer,
    images: Sequence[Any],
    labels: Sequence[int] | np.ndarray,
    class_names: Sequence[str],
    templates: str | Sequence[str] = "general",
    resize_modes: Sequence[str] = ("squash", "center_crop"),
    image_converter: PEImageConverter | None = None,
    video: VideoProtocol | None = None,
    batch_size: int = 32,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
    max_skipped_share: float = 0.01,
    hash_contents: bool = True,
    progress: bool = False,
    equal_names: Equals = "separate",
) -> EvaluationResult:
    """Evaluates zero-shot classification of images or videos.

    A class is the mean of its prompts' unit embeddings, of unit length. Each resize
    mode is scored; the paper reports the better of the two for each data set, which is
    `result.best`. Scores are `top1` and `top5`, shares of all images (the latter of
    five classes or more), and `mean_class_recall`, the mean over classes of top-1.
    Classes that tie with the right one come first.

    Args:
        model: a `PECore`.
        tokenizer: the model's `PETokenizer`.
        images: paths or whatever `PEImageConverter` takes; videos with `video`.
        labels: `(images,)`, places in `class_names`.
        class_names: names of the classes.
        templates: prompts with one `{}` or `{c}` each, or the name of a list in
            `keras_pe.evaluation.TEMPLATES`.
        resize_modes: "squash", "center_crop" or both.
        image_converter: how images are prepared, but for the resize mode; None makes
            one of the model's size.
        video: how videos are embedded; None: these are images.
        batch_size: images, frames or texts a forward pass.
        seed: of the bootstrap over images.
        num_resamples: number of draws.
        max_skipped_share: share of unreadable images that stops the run; fewer are
            left out, counted and named.
        hash_contents: whether `data_hash` reads all files, or names and sizes.
        progress: whether a progress bar is shown.
        equal_names: what classes are that no prompt tells apart, such as ImageNet's two
            of "crane", or "owl" and "OWL ": "separate" rivals, none of which can come
            first, or one class that gets the "credit" for all. They are named in a
            warning and in the protocol.

    Returns:
        An `EvaluationResult`.

    Raises:
        ValueError: if arguments do not fit together.
        ImageError: if too many images can't be read.
        NonFiniteError: if the model gives NaN or infinity, naming for which image,
            prompt or class.

    Source: Perception Encoder, appendix B.1.2; upstream `zeroshot_classification.py`.

    Example:
        >>> from importlib.resources import files
        >>> preset = "pe_core_emoji_small_patch8_64"
        >>> model = PECore.from_preset(preset)
        >>> tokenizer = PETokenizer.from_preset(preset)
        >>> folder = files("keras_pe") / "cli" / "demo_images"
        >>> names = ["owl", "guitar", "pizza"]
        >>> images = [folder / f"{name}.png" for name in names]
        >>> result = evaluate_zero_shot(model, tokenizer, images, [0, 1, 2], names)
        >>> print(result.best["top1"])
        100.0 [29.2, 100.0]
    """
    modes = check_modes(resize_modes)
    names = checked_class_names(class_names)
    check_equals(equal_names, "equal_names")
    truth = _check_labels(labels, len(images), len(names))
    prompts = prompt_templates(templates)
    video = video_of_task(video, average="raw", unit_length=True)
    embedder = SampleEmbedder(
        model, image_converter, video, batch_size, max_skipped_share, progress
    )
    size = min(batch_size, len(names) * len(prompts))
    vectors, truncated = class_vectors(model, tokenizer, names, prompts, size)
    first = equal_classes(tokenizer, names, prompts, vectors)
    groups = equal_groups(first)
    warn_of_equals("class names", names, groups, scores_of_equals("equal_names"))
    vectors, places = vectors[first], np.arange(len(names))  # ties to the last bit
    if equal_names == "credit":
        alone, places = np.unique(first, return_inverse=True)
        vectors = vectors[alone]
    kept, embeddings, report = embedder.embed_modes(images, modes)
    scores: dict[str, dict[str, Score]] = {}
    for mode in modes:
        ranks = label_ranks(embeddings[mode], vectors, places[truth[kept]])
        options = seed, num_resamples
        scores[mode] = {"top1": mean_score(ranks < 1, None, *options)}
        if len(vectors) >= TOP_K:
            scores[mode]["top5"] = mean_score(ranks < TOP_K, None, *options)
        scores[mode]["mean_class_recall"] = class_mean_score(
            ranks < 1, truth[kept], *options
        )
    return EvaluationResult(
        task=f"zero-shot {'video ' if video else ''}classification",
        protocol={
            "resize_modes": list(modes),
            "converter": embedder.settings,
            "video": dataclasses.asdict(video) if video else None,
            "templates": list(prompts),
            "class_names": names,
            "equal_names": equal_names,
            "equal_classes": groups,
            "truncated_prompts": truncated,
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
        chosen_by="top1",
        weights_hash=weights_hash(model),
        data_hash=data_hash(images, [truth, names], hash_contents),
        seed=int(seed),
        num_samples=len(kept),
        skipped=tuple(report.skipped),
        versions=package_versions(),
    )


def label_ranks(  # (count, channels), (classes, channels), (count,)
    embeddings: np.ndarray, class_vectors: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """Returns how many classes are not farther than the right one, `(count,)`.

    Raises:
        ValueError: if embeddings or class vectors are no floating-point numbers, or
            labels are not one place in the class vectors for each sample.
        NonFiniteError: naming the first sample or class that is NaN or infinite.

    Example:
        >>> label_ranks(np.eye(3), np.eye(3), np.array([0, 1, 2]))
        array([0, 0, 0])
    """
    embeddings = checked_embeddings(embeddings, "embeddings", "sample")
    class_vectors = checked_embeddings(class_vectors, "class vectors", "class")
    labels = _check_labels(labels, len(embeddings), len(class_vectors))
    classes = Gallery(class_vectors)
    ranks = np.empty(len(labels), "int64")
    step = max(1, _CHUNK // len(class_vectors))
    for start in range(0, len(labels), step):
        rows = slice(start, start + step)
        with np.errstate(over="ignore", invalid="ignore"):
            similarities = classes.products(embeddings[rows])
        # (rows, classes)
        what = f"similarities of the samples from {start} on"
        check_finite(similarities, what, "sample", hint=UNIT_LENGTH)
        right = np.take_along_axis(similarities, labels[rows, None], axis=1)
        ranks[rows] = (similarities >= right).sum(axis=1) - 1
    return ranks


def _check_labels(labels: Any, num_images: int, num_classes: int) -> np.ndarray:
    array = np.asarray(labels)
    if array.shape != (num_images,) or array.dtype.kind not in "iu":
        raise ValueError(
            f"labels has shape {array.shape} and dtype {array.dtype}; expected one "
            f"whole number for each of {num_images} images."
        )
    if not num_images:
        raise ValueError("There are no images to evaluate.")
    if array.min() < 0 or array.max() >= num_classes:
        raise ValueError(
            f"labels range from {array.min()} to {array.max()}; expected places in the "
            f"{num_classes} class_names, 0 to {num_classes - 1}."
        )
    return array.astype("int64")
