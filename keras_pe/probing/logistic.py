"""Logistic probe: the linear head of most probability, by L-BFGS."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from keras_pe.probing.feature_store import Samples, Standardization
from keras_pe.probing.probe import ClassificationProbe, count_labels
from keras_pe.probing.ridge import FittedRidge, LinearHead, checked_alphas

PENALTIES = tuple(10.0**power for power in range(-5, 1))


class Logistic(ClassificationProbe):
    """Multinomial logistic regression with an L2 penalty on the weights.

    Args:
        penalties: regularisers to choose from, on the validation images: the factor
            of half the squared weights beside the MEAN cross-entropy, which is
            1 / (C x samples) of scikit-learn.
        max_iterations: of L-BFGS, for each penalty. The path starts at the strongest
            penalty, and each solution starts the next.
        tolerance: largest gradient entry at which it stops.
        chunk_size: samples whose logits are held at once.

    Source: Perception Encoder, table 8 (linear probe; its optimiser is not given).

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> probe = Logistic(penalties=[0.01])
        >>> result = sweep(encoder, (images, labels), probe=probe, layers=[2],
        ...     progress=False)
        >>> result.metric
        'accuracy'
    """

    name: ClassVar[str] = "logistic"

    def __init__(
        self,
        penalties: Sequence[float] = PENALTIES,
        max_iterations: int = 200,
        tolerance: float = 1e-5,
        chunk_size: int = 4096,
    ) -> None:
        self.penalties = checked_alphas(penalties)
        self.max_iterations = max_iterations
        self.tolerance = tolerance
        self.chunk_size = chunk_size

    def fit(self, train: Samples, validation: Samples, seed: int) -> FittedRidge:
        num_classes = count_labels(train).num_classes
        objective = Objective(train, num_classes, self.chunk_size)
        parameters = np.zeros(objective.size)
        best, most = None, -1
        for penalty in reversed(self.penalties):  # of equals the strongest stays
            parameters = self._minimize(objective, parameters, penalty)
            head = LinearHead(objective.standardize, *objective.split(parameters))
            fitted = FittedRidge(head, penalty)
            fitted.setting = {"penalty": penalty}
            correct = sum(
                int((fitted.predict(features) == targets).sum())
                for features, targets in validation.chunks()
            )
            if correct > most:
                best, most = fitted, correct
        assert best is not None
        return best

    def _minimize(
        self, objective: "Objective", parameters: np.ndarray, penalty: float
    ) -> np.ndarray:
        try:
            from scipy.optimize import minimize
        except ImportError as error:
            raise ImportError(
                "The logistic probe needs SciPy: pip install scipy. Or use "
                'probe="ridge".'
            ) from error
        found = minimize(
            objective,
            parameters,
            args=(penalty,),
            jac=True,
            method="L-BFGS-B",
            options={
                "maxiter": self.max_iterations,
                "gtol": self.tolerance,
                "ftol": 1e-13,  # its default stops before the gradient is small
            },
        )
        return np.asarray(found.x)


class Objective:
    """Mean cross-entropy and its gradient, summed over chunks from disk.

    Args:
        samples: the training samples.
        num_classes: number of classes.
        chunk_size: samples whose logits are held at once.
    """

    def __init__(self, samples: Samples, num_classes: int, chunk_size: int) -> None:
        self.samples, self.chunk_size = samples, chunk_size
        self.standardize = Standardization.of(samples)
        self.channels, self.num_classes = len(self.standardize.mean), num_classes
        self.size = (self.channels + 1) * num_classes

    def split(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns weights `(channels, classes)` and bias `(classes,)`."""
        matrix = parameters.reshape(self.channels + 1, self.num_classes)
        return matrix[:-1], matrix[-1]

    def __call__(
        self, parameters: np.ndarray, penalty: float
    ) -> tuple[float, np.ndarray]:
        """Returns the penalised loss and its gradient."""
        weights, bias = self.split(parameters)
        count = len(self.samples)
        loss = 0.5 * penalty * float(np.square(weights).sum())
        gradient = np.zeros((self.channels + 1, self.num_classes))
        gradient[:-1] = penalty * weights
        for features, labels in self.samples.chunks(self.chunk_size):
            x = self.standardize(features)
            logits = x @ weights + bias  # (chunk, classes)
            logits -= logits.max(axis=1, keepdims=True)
            probabilities = np.exp(logits)
            totals = probabilities.sum(axis=1, keepdims=True)
            rows = np.arange(len(labels))
            log_totals = np.log(totals[:, 0])
            loss += float((log_totals - logits[rows, labels]).sum()) / count
            probabilities /= totals
            probabilities[rows, labels] -= 1.0
            gradient[:-1] += x.T @ probabilities / count
            gradient[-1] += probabilities.sum(axis=0) / count
        return loss, gradient.ravel()
