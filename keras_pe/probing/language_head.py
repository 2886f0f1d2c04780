"""What is trained on a layer to answer questions: a projector and a language model."""

import contextlib
import math
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import NonFiniteError, check_finite
from keras_pe.language.answers import among_words, answer_cost
from keras_pe.language.generation import generate
from keras_pe.layers.projector import VisionProjector
from keras_pe.models.compiled import no_gradient, run_compiled

WARM_UP = 0.05  # share of the steps
# From the number of a step to a batch, arrays by name.
Batches = Callable[[int], dict[str, np.ndarray]]


class AnswerHead(keras.Model):
    """A projector and a language model, which answer of features.

    Layers differ in scale by orders of magnitude, and an encoder's last norm fits its
    last layer alone: so each projector has a norm of its own, which is trained.

    Args:
        projector: from the layer's channels to the decoder's.
        decoder: a `keras_pe.language.Decoder` that is a Keras model.
        train_decoder: whether it is trained along, as far as it is trainable; else it
            is frozen in each training, and afterwards as it was.
    """

    def __init__(
        self, projector: VisionProjector, decoder: Any, train_decoder: bool
    ) -> None:
        super().__init__(name="answer_head", autocast=False)
        self.projector, self.decoder = projector, decoder
        self.train_decoder = train_decoder
        self.built = True

    @property
    def trained(self) -> list[Any]:
        """The variables that a training changes."""
        part = self if self.train_decoder else self.projector
        return list(part.trainable_variables)

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns the mean cost of an answer's token."""
        tokens = self.image_tokens(inputs["features"])
        training = bool(training) and self.train_decoder
        found = answer_cost(self.decoder, tokens, inputs, training)
        return found.cost / ops.maximum(ops.sum(inputs["answer_weights"]), 1.0)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        return y_pred

    def image_tokens(self, features: Any) -> Any:
        """Returns `(rows, images x tokens, hidden_dim)`.

        Args:
            features: `(rows, images, patch rows, patch columns, channels)`.
        """
        rows, images, *grid, channels = features.shape
        flat = ops.reshape(features, (-1, grid[0] * grid[1], channels))
        found = self.projector(flat, grid=(grid[0], grid[1]))
        return ops.reshape(found, (rows, images * found.shape[1], found.shape[2]))

    def prompts(self, features: Any, token_ids: Any, image_slots: Any) -> Any:
        """Returns `(rows, length, hidden_dim)`: questions with an image each."""
        tokens = self.image_tokens(features[:, None])
        return among_words(self.decoder, token_ids, image_slots, tokens)

    def answers(
        self,
        features: np.ndarray,  # (rows, patch rows, patch columns, channels)
        token_ids: np.ndarray,  # (rows, length)
        image_slots: np.ndarray,
        lengths: np.ndarray,  # (rows,)
        stop_id: int,
        max_tokens: int,
    ) -> np.ndarray:
        """Returns int32 `(rows, max_tokens)`, the likeliest answers' tokens."""
        arrays = [
            ops.convert_to_tensor(x, dtype)
            for x, dtype in (
                (features, "float32"), (token_ids, "int32"), (image_slots, "int32")
            )
        ]  # fmt: skip
        with no_gradient():
            method = types.MethodType(AnswerHead.prompts, self)
            prompts = run_compiled(self, "prompts", method, *arrays)
            return generate(self.decoder, prompts, stop_id, max_tokens, lengths)


class AnswerTrainer:
    """Fits heads, one after the other: those of one shape compile once.

    Args:
        build: makes an untrained head of channels and tokens of images; its weights
            depend on Keras' random seed.
        steps: of each training.
        weight_decay: of AdamW, on matrices.
    """

    def __init__(
        self,
        build: Callable[[tuple[int, ...]], AnswerHead],
        steps: int,
        weight_decay: float,
    ) -> None:
        self.build, self.steps, self.weight_decay = build, steps, weight_decay
        self._heads: dict[tuple[int, ...], tuple[AnswerHead, list[np.ndarray]]] = {}
        self._first: dict[tuple[Any, ...], list[np.ndarray]] = {}

    def head(self, shape: tuple[int, ...]) -> AnswerHead:
        """Returns the head of features `(patch rows, patch columns, channels)`."""
        if shape not in self._heads:
            head = self._built(shape)
            optimizer = keras.optimizers.AdamW(
                1e-3, self.weight_decay, beta_2=0.95, global_clipnorm=1.0
            )
            optimizer.exclude_from_weight_decay(var_names=["bias", "beta", "gamma"])
            head.compile(optimizer)
            optimizer.build(head.trained)
            self._heads[shape] = head, _values(optimizer.variables)
        return self._heads[shape][0]

    def fit(
        self, shape: tuple[int, ...], batches: Batches, learning_rate: float, seed: int
    ) -> tuple[list[np.ndarray], float]:
        """Trains a head from the start.

        Args:
            shape: of a sample's features.
            batches: gives those of each step.
            learning_rate: its peak, after a short rise; then a cosine to zero.
            seed: of the first weights.

        Returns:
            Its weights, and the mean loss of its last tenth of steps.

        Raises:
            NonFiniteError: if the loss or a weight ends in NaN or infinity.
        """
        head = self.head(shape)
        self._start(shape, seed)
        with contextlib.nullcontext() if head.train_decoder else frozen(head.decoder):
            losses = self._losses(head, batches, learning_rate)
        weights = _values(head.trained)
        for variable, values in zip(head.trained, weights, strict=True):
            check_finite(values, f"{variable.path} at learning rate {learning_rate:g}")
        return weights, float(np.mean(losses[-max(1, self.steps // 10) :]))

    def _losses(
        self, head: AnswerHead, batches: Batches, learning_rate: float
    ) -> list[float]:
        """Trains a head for all steps, and returns the loss of each."""
        losses: list[float] = []
        for step in range(self.steps):
            head.optimizer.learning_rate = learning_rate * self._share(step)
            found = head.train_on_batch(batches(step), return_dict=True)
            losses.append(float(found["loss"]))
            if not math.isfinite(losses[-1]):
                raise NonFiniteError(
                    f"The loss of step {step + 1} of {self.steps} at learning rate "
                    f"{learning_rate:g} is {losses[-1]}. Offer a smaller one."
                )
        return losses

    def _share(self, step: int) -> float:
        """Returns the share of the peak learning rate at a step from 0."""
        rise = max(1, round(WARM_UP * self.steps))
        if step < rise:
            return (step + 1) / (rise + 1)
        return 0.5 + 0.5 * math.cos(math.pi * (step - rise) / (self.steps - rise))

    def _start(self, shape: tuple[int, ...], seed: int) -> None:
        """Gives the head the first weights of a seed, and its optimizer none."""
        head, state = self._heads[shape]
        if (shape, seed) not in self._first:
            keras.utils.set_random_seed(seed)
            self._first[shape, seed] = _values(self._built(shape).trained)
        put(head.trained, self._first[shape, seed])
        put(head.optimizer.variables, state)

    def _built(self, shape: tuple[int, ...]) -> AnswerHead:
        """Builds a head with weights of its own.

        Raises:
            ValueError: if its decoder is one that another head trains.
        """
        found = self.build(shape)
        known = {
            id(each)
            for head, _ in self._heads.values()
            for each in head.decoder.variables
        }
        trained = found.decoder.trainable_variables
        shared = [each.path for each in trained if id(each) in known]
        if found.train_decoder and shared:
            raise ValueError(
                f"decoder() returned a decoder with {len(shared)} weights of the one "
                f"that it returned before, such as {shared[0]}: the next training "
                f"would begin where the last one ended. Return a new one each time, or "
                f"give a trained decoder itself, which is left as it is."
            )
        return found


@contextlib.contextmanager
def frozen(layer: keras.Layer) -> Iterator[None]:
    """Freezes a layer; after the block the same is trainable in it as before."""
    parts: list[tuple[Any, str]] = [(x, "_trainable") for x in layer._flatten_layers()]
    parts += [(variable, "trainable") for variable in layer.variables]
    before = [getattr(part, name) for part, name in parts]
    # One by one: a layer's setter hands its flag on, but on TensorFlow not where the
    # layer has it already.
    for part, name in parts:
        setattr(part, name, False)
    try:
        yield
    finally:
        for (part, name), flag in zip(parts, before, strict=True):
            setattr(part, name, flag)


def _values(variables: Sequence[Any]) -> list[np.ndarray]:
    # A copy: on the CPU these may be the variables' own memory.
    return [np.array(ops.convert_to_numpy(variable)) for variable in variables]


def put(variables: Sequence[Any], values: Sequence[np.ndarray]) -> None:
    """Gives variables their values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
