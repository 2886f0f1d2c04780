"""Ridge probe: the linear least-squares head, in closed form."""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.probing.feature_store import Samples, Standardization
from keras_pe.probing.probe import (
    ClassificationProbe,
    FittedClassifier,
    FittedProbe,
    Probe,
    count_labels,
)

# Times the number of training samples; from hardly any to almost all shrinkage.
ALPHAS = tuple(10.0**power for power in range(-6, 3))


class LinearHead:
    """A linear map of standardised features.

    Args:
        standardize: of the training features.
        weights: `(channels, outputs)`.
        bias: `(outputs,)`.
    """

    def __init__(
        self, standardize: Standardization, weights: np.ndarray, bias: np.ndarray
    ) -> None:
        self.standardize, self.weights, self.bias = standardize, weights, bias

    def __call__(self, features: np.ndarray) -> np.ndarray:
        """Returns float64 `(samples, outputs)`.

        Raises:
            NonFiniteError: naming the first row that is NaN or infinite.
        """
        features = check_finite(features, "features")
        return np.asarray(self.standardize(features) @ self.weights + self.bias)


class RidgePath:
    """The ridge solutions of one set of samples, for any regulariser.

    One pass sums the Gram matrix `(channels, channels)`; its eigenvectors then give
    every solution at the price of a matrix product.
    """

    def __init__(self, samples: Samples, encode: Any) -> None:
        self.samples = len(samples)
        self.standardize = Standardization.of(samples)
        gram = cross = total = None
        for features, targets in samples.chunks():
            x = self.standardize(features)  # (chunk, channels)
            y = encode(targets)  # (chunk, outputs)
            gram = x.T @ x if gram is None else gram + x.T @ x
            cross = x.T @ y if cross is None else cross + x.T @ y
            total = y.sum(axis=0) if total is None else total + y.sum(axis=0)
        assert gram is not None
        assert cross is not None
        assert total is not None
        self.bias = total / self.samples
        values, self.vectors = np.linalg.eigh(gram)
        self.values = np.maximum(values, 0.0)
        self.projected = self.vectors.T @ cross  # features are centred: so is cross

    def head(self, alpha: float) -> LinearHead:
        """Returns the head for a regulariser, relative to the number of samples."""
        shrunk = self.projected / (self.values + alpha * self.samples)[:, None]
        return LinearHead(self.standardize, self.vectors @ shrunk, self.bias)


class Ridge(ClassificationProbe):
    """Least squares on one-hot labels; the largest output names the class.

    Args:
        alphas: regularisers to choose from, on the validation images, in units of
            the number of training images: scikit-learn's `alpha` divided by it.

    Source: big_vision's few-shot evaluator uses the same head.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> probe = Ridge(alphas=[0.1, 1.0])
        >>> result = sweep(encoder, (images, labels), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'accuracy'
    """

    name: ClassVar[str] = "ridge"

    def __init__(self, alphas: Sequence[float] = ALPHAS) -> None:
        self.alphas = checked_alphas(alphas)

    def fit(self, train: Samples, validation: Samples, seed: int) -> "FittedRidge":
        classes = np.eye(count_labels(train).num_classes)
        path = RidgePath(train, lambda labels: classes[labels])
        heads = [FittedRidge(path.head(alpha), alpha) for alpha in self.alphas]
        correct = np.zeros(len(heads))
        for features, targets in validation.chunks():
            correct += [(head.predict(features) == targets).sum() for head in heads]
        # Of equals the strongest regulariser.
        best = len(heads) - 1 - int(correct[::-1].argmax())
        return heads[best]


class FittedRidge(FittedClassifier):
    """A head and its regulariser."""

    def __init__(self, head: LinearHead, alpha: float) -> None:
        self.head = head
        self.setting: dict[str, Any] = {"alpha": alpha}

    def predict(self, features: np.ndarray) -> np.ndarray:
        return np.asarray(self.head(features).argmax(axis=1))


# === Regression ===
class RidgeRegression(Probe):
    """Predicts numbers, such as counts, poses or ages, by ridge regression.

    Targets are float `(samples,)` or `(samples, outputs)`; the score is the share of
    their variance that is explained, R2, over all outputs together.

    Args:
        alphas: as for `Ridge`.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> brightness = images.mean(axis=(1, 2, 3))
        >>> probe = RidgeRegression()
        >>> result = sweep(encoder, (images, brightness), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'R2'
    """

    name: ClassVar[str] = "ridge_regression"
    metric: ClassVar[str] = "R2"
    readings = ClassificationProbe.readings

    def __init__(self, alphas: Sequence[float] = ALPHAS) -> None:
        self.alphas = checked_alphas(alphas)

    def fit(self, train: Samples, validation: Samples, seed: int) -> "FittedRegression":
        path = RidgePath(train, columns)
        candidates = [FittedRegression(path.head(a), a, path.bias) for a in self.alphas]
        errors = [fitted.statistics(validation)[:, 0].sum() for fitted in candidates]
        return candidates[len(candidates) - 1 - int(np.argmin(errors[::-1]))]

    def baseline(self, train: Samples, test: Samples) -> np.ndarray:
        total = sum(columns(t).sum(axis=0) for t in train.targets())
        mean = np.asarray(total) / len(train)
        rows = [np.square(columns(t) - mean).sum(axis=1) for t in test.targets()]
        squares = np.concatenate(rows)
        return np.stack([squares, squares], axis=1)

    def score(self, means: np.ndarray) -> np.ndarray:
        return np.asarray(1.0 - means[..., 0] / np.maximum(means[..., 1], 1e-300))


class FittedRegression(FittedProbe):
    """A head, its regulariser and the mean of the training targets."""

    def __init__(self, head: LinearHead, alpha: float, mean: np.ndarray) -> None:
        self.head, self.mean = head, mean
        self.setting: dict[str, Any] = {"alpha": alpha}

    def statistics(self, samples: Samples) -> np.ndarray:
        """Returns squared error, and squared distance from the mean, of each sample."""
        rows = []
        for features, targets in samples.chunks():
            y = columns(targets)
            error = np.square(self.head(features) - y).sum(axis=1)
            rows.append(np.stack([error, np.square(y - self.mean).sum(axis=1)], 1))
        return np.concatenate(rows)


def columns(targets: np.ndarray) -> np.ndarray:
    """Returns targets as float64 `(samples, outputs)`."""
    return np.asarray(targets.reshape(len(targets), -1).astype("float64"))


def checked_alphas(alphas: Sequence[float]) -> tuple[float, ...]:
    """Returns regularisers in ascending order.

    Raises:
        ValueError: if there are none, or one is not above 0, infinite or NaN.
    """
    numbers = sorted(float(alpha) for alpha in alphas)
    if not numbers or not all(0 < number < np.inf for number in numbers):
        raise ValueError(
            f"alphas={alphas!r}: expected at least one, finite and all above 0."
        )
    return tuple(numbers)
