"""Scores of an emoji model, with intervals, on the sets that it was not trained on."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.arrays import check_finite
from keras_pe.evaluation.intervals import mean_score
from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from projects.emoji.data.captions import class_prompts
from projects.emoji.data.shards import load_arrays


@dataclasses.dataclass(frozen=True)
class Score:
    """Share of images whose class is the first, or among the first five.

    Attributes:
        images: how many images.
        classes: out of how many classes.
        top1: share, with a bootstrap 95 % interval over the images.
        top5: share, likewise.
    """

    images: int
    classes: int
    top1: tuple[float, float, float]
    top5: tuple[float, float, float]


def share(hits: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean of hits and its 95 % interval."""
    mean = mean_score(hits)
    return mean.value, mean.low, mean.high


def score(similarities: np.ndarray, labels: np.ndarray) -> Score:
    """Returns top-1 and top-5 of `(images, classes)` similarities.

    Raises:
        NonFiniteError: naming the first image that can't be compared.
    """
    similarities = check_finite(similarities, "similarities", "image")
    right = similarities[np.arange(len(labels)), labels][:, None]
    # Ties count against the model, and what can't be compared does too.
    place = (~(similarities < right)).sum(axis=1) - 1
    return Score(
        images=len(labels),
        classes=similarities.shape[1],
        top1=share(place < 1),
        top5=share(place < 5),
    )


def plain_classes(data: Path, vendor: str) -> list[dict[str, Any]]:
    """Returns the concepts of a vendor that are neither flags nor symbols."""
    concepts: list[dict[str, Any]] = json.loads((data / "concepts.json").read_text())
    return [
        concept
        for concept in concepts
        if vendor in concept["vendors"]
        and not (concept["is_flag"] or concept["is_symbol"])
    ]


@dataclasses.dataclass(frozen=True)
class Compared:
    """Images of a split against the names of all classes.

    Attributes:
        similarities: `(images, classes)`.
        labels: the right class of each image.
        heldout_classes: whether a class had no drawing in training.
    """

    similarities: np.ndarray
    labels: np.ndarray
    heldout_classes: np.ndarray


def name_classifier(
    model: PECore, tokenizer: PETokenizer, classes: list[dict[str, Any]]
) -> ZeroShotClassifier:
    """Returns what compares images with the names of concepts, all prompts encoded."""
    return ZeroShotClassifier(
        model,
        tokenizer,
        [concept["label"] for concept in classes],
        class_prompts(),
        batch_size=128,
    )


def compare(
    classifier: ZeroShotClassifier,
    converter: PEImageConverter,
    data: Path,
    split: str,
    classes: list[dict[str, Any]],
) -> Compared:
    """Returns the images of a split, compared with the names of classes.

    Args:
        classifier: of these classes.
        converter: what prepares images for users too.
        data: output of `projects.emoji.data.prepare`.
        split: "test", "tuxpaint", "val_seen", ...
        classes: the concepts to choose from; images of others are left out.
    """
    place = {concept["id"]: i for i, concept in enumerate(classes)}
    arrays, records = load_arrays(data, split)
    kept = [i for i, record in enumerate(records) if record["concept"] in place]
    images = [Image.fromarray(arrays[i]) for i in kept]
    return Compared(
        np.asarray(classifier.similarities(converter(images))),
        np.array([place[records[i]["concept"]] for i in kept]),
        np.array([concept["heldout"] for concept in classes]),
    )


def evaluate(
    model: PECore,
    tokenizer: PETokenizer,
    converter: PEImageConverter,
    data: Path,
    split: str,
    classes: list[dict[str, Any]],
) -> dict[str, Score]:
    """Scores a model on a split: all its images, seen and held-out concepts.

    Args:
        model, tokenizer: what is scored.
        converter, data, split, classes: see `compare`.
    """
    classifier = name_classifier(model, tokenizer, classes)
    found = compare(classifier, converter, data, split, classes)
    similarities, labels = found.similarities, found.labels
    heldout = found.heldout_classes[labels]
    scores = {"all": score(similarities, labels)}
    for name, rows in (("seen", ~heldout), ("held out", heldout)):
        if rows.any():
            scores[name] = score(similarities[rows], labels[rows])
    if heldout.any():
        # How well are unseen concepts told from each other?
        columns = np.flatnonzero(found.heldout_classes)
        narrowed = np.searchsorted(columns, labels[heldout])
        scores["held out, among themselves"] = score(
            similarities[heldout][:, columns], narrowed
        )
    return scores


def photograph_classes(data: Path) -> list[dict[str, Any]]:
    """Returns the concepts that the photographs show."""
    concepts = json.loads((data / "concepts.json").read_text())
    _, records = load_arrays(data, "tuxpaint")
    shown = {record["concept"] for record in records}
    return [concept for concept in concepts if concept["id"] in shown]
