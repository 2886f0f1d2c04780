"""The linear head of a frozen encoder's features, in closed form, and how sure it is.

Ridge regression on one-hot labels needs no learning rate and takes seconds. Its outputs
are no logits: a factor makes them so, fitted to the validation images as Platt did.
"""

import dataclasses
from typing import Any, Literal

import numpy as np

from keras_pe.arrays import softmax
from keras_pe.finetuning.class_labels import stratified_rows
from keras_pe.finetuning.feature_pass import FeaturePass
from keras_pe.probing.feature_store import Samples
from keras_pe.probing.logistic import Logistic
from keras_pe.probing.ridge import ALPHAS, LinearHead, Ridge, RidgePath

ProbeName = Literal["ridge", "logistic"]
PROBES: dict[str, Any] = {"ridge": Ridge, "logistic": Logistic}
SHARE_TO_CHOOSE_ON = 0.2  # of the training images, where nothing is validated
FACTORS = np.logspace(-1, 3, 161)


@dataclasses.dataclass(frozen=True)
class FittedHead:
    """A linear head whose outputs are logits.

    Attributes:
        arrays: mean, deviation, kernel and bias, float32.
        setting: the regulariser that was chosen, and the factor of the outputs.
        validation: loss and accuracy on the validation images; empty without any.
    """

    arrays: dict[str, np.ndarray]
    setting: dict[str, float]
    validation: dict[str, float]


def fit_head(
    passed: FeaturePass, layer: int, num_classes: int, probe: str, seed: int
) -> FittedHead:
    """Fits a head to the training images; the validation images choose its regulariser.

    Without validation images a share of the training images chooses, and the head is
    then fitted to all of them.

    Args:
        passed: the features.
        layer: whose.
        num_classes: of which it gives logits.
        probe: "ridge" or "logistic"; the latter needs SciPy.
        seed: of what is kept back to choose.
    """
    kind = PROBES[probe]
    train, held = _rows(passed, seed)
    validation = passed.samples(layer, held)
    fitted = kind().fit(passed.samples(layer, train), validation, seed)
    outputs, targets = all_outputs(fitted.head, validation, num_classes)
    factor = sharpness(outputs, targets)
    head, scores = fitted.head, {}
    (name, value), *_ = fitted.setting.items()
    if len(passed.validation):
        likely = softmax(factor * outputs)[np.arange(len(targets)), targets]
        scores = {
            "accuracy": float((outputs.argmax(axis=1) == targets).mean()),
            "loss": float(-np.log(np.maximum(likely, 1e-300)).mean()),
        }
    else:
        samples = passed.samples(layer, passed.train)
        head = kind([value]).fit(samples, samples, seed).head
    return FittedHead(
        _arrays(head, factor),
        {name: value, "factor": factor},
        scores,
    )


def mild_head(
    passed: FeaturePass, layer: int, num_classes: int, seed: int
) -> dict[str, np.ndarray]:
    """Fits the head that an encoder's training begins with.

    The best head of frozen features may know all training images by heart, by
    differences of channels that are all but equal: then their loss says nothing of what
    the encoder should learn, and the smallest change of it makes nonsense of the
    outputs. So of all ridge heads that are as good as the best, by one standard error
    of its loss on the validation images, the most regularised one is taken.

    Args:
        passed: the features.
        layer: whose.
        num_classes: of which it gives logits.
        seed: of what is kept back to choose, where nothing is validated.

    Returns:
        mean, deviation, kernel and bias, float32.

    Source: Breiman et al. 1984, "Classification and regression trees", section 3.4.3,
        the rule of one standard error.
    """
    train, held = _rows(passed, seed)
    validation, classes = passed.samples(layer, held), np.eye(num_classes)
    path = RidgePath(passed.samples(layer, train), lambda labels: classes[labels])
    found = []
    for alpha in ALPHAS:  # from hardly any to almost all shrinkage
        head = path.head(alpha)
        outputs, targets = all_outputs(head, validation, num_classes)
        factor = sharpness(outputs, targets)
        likely = softmax(factor * outputs)[np.arange(len(targets)), targets]
        losses = -np.log(np.maximum(likely, 1e-300))
        error = float(losses.std()) / len(losses) ** 0.5
        found.append((float(losses.mean()), error, head, factor))
    least, error, *_ = min(found, key=lambda one: one[0])
    head, factor = next(
        (head, factor)
        for loss, _, head, factor in reversed(found)
        if loss <= least + error
    )
    return _arrays(head, factor)


def _rows(passed: FeaturePass, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the rows to fit to, and those that choose."""
    train, held = passed.train, passed.validation
    if not len(held):
        labels = passed.labels[train]
        kept, chosen = stratified_rows(labels, SHARE_TO_CHOOSE_ON, seed)
        train, held = (train[kept], train[chosen]) if len(chosen) else (train, train)
    return train, held


def _arrays(head: LinearHead, factor: float) -> dict[str, np.ndarray]:
    return {
        "mean": head.standardize.mean.astype("float32"),
        "deviation": head.standardize.deviation.astype("float32"),
        "kernel": (factor * head.weights).astype("float32"),
        "bias": (factor * head.bias).astype("float32"),
    }


def all_outputs(
    head: LinearHead, samples: Samples, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns a head's outputs `(samples, classes)` and the targets."""
    found = [(head(features), targets) for features, targets in samples.chunks()]
    outputs = np.concatenate([outputs for outputs, _ in found])
    assert outputs.shape[1] == num_classes  # every class has training images
    return outputs, np.concatenate([targets for _, targets in found])


def sharpness(outputs: np.ndarray, targets: np.ndarray) -> float:
    """Returns the factor that makes logits of outputs: of least cross-entropy.

    Targets are a little less than sure, or outputs that are always right would be
    multiplied for ever.

    Args:
        outputs: `(images, classes)`.
        targets: the classes.

    Source: Platt 1999, "Probabilistic outputs for support vector machines", section
        2.2; Guo et al. 2017, "On calibration of modern neural networks".

    Example:
        >>> round(sharpness(np.eye(2)[[0, 1, 0, 1]], np.array([0, 1, 0, 1])), 1)
        1.6
    """
    count, num_classes = outputs.shape
    doubt = 1 / (count + 2)
    wanted = np.full(outputs.shape, doubt / max(num_classes - 1, 1))
    wanted[np.arange(count), targets] = 1 - doubt
    losses = []
    for factor in FACTORS:
        logits = factor * outputs
        logits -= logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(logits).sum(axis=1, keepdims=True))
        losses.append(float((wanted * (log_total - logits)).sum() / count))
    return float(FACTORS[int(np.argmin(losses))])
