"""Spatial alignment: the dense features of an inner layer move to the output."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

import keras
from keras import ops

from keras_pe.arrays import is_number
from keras_pe.layers.fine_tuning import Dense
from keras_pe.layers.initializers import RandomNormal
from keras_pe.losses.correspondence import SHARPNESS, correspondence_loss
from keras_pe.losses.token_alignment import feature_alignment_loss
from keras_pe.models.token_encoder import TokenEncoder
from keras_pe.models.tower import resolve_layers
from keras_pe.training.teachers.features import grid_tokens
from keras_pe.training.trainers.base import (
    BaseTrainer,
    Latest,
    Term,
    loss_rows,
    take_drop_path,
)

MaskTeacher = Callable[[Any, tuple[int, int]], Any]


@keras.saving.register_keras_serializable("keras_pe")
class SpatialAlignmentTrainer(BaseTrainer):
    """Trains a vision encoder to give at its output what lies inside another.

    Two teachers: the tokens of an encoder's inner layer (its own, before training), and
    masks that say which patches belong together. The student sees images of which
    patches are masked, the teachers whole ones.

    Batches are dictionaries: `images` `(batch, height, width, 3)` in [-1, 1];
    `masked_patches`, bool `(batch, patches)`, that the student does not see, which an
    evaluation goes without; `mask_rows` `(batch, patches, points)`, what masks say of
    each patch, where no `mask_teacher` makes them; and `background` `(batch, patches)`,
    the share of each patch that belongs to nothing, if its pairs count less.

    Args:
        student: the encoder that is trained, in place: `PESpatial.from_core(...)`, or
            another model's `keras_pe.alignment.LayeredEncoder`.
        teacher: the encoder whose tokens are matched, frozen by this. Of another width,
            the student's tokens go through a linear layer first, that is trained along.
            None for none.
        teacher_layer: its layer; "auto" takes the paper's share, 41 of 50.
        mask_teacher: what says which patches belong together: "batch" for `mask_rows`
            of each batch, "teacher" for the tokens of `teacher` (small students), or
            a function `(images, grid) -> (batch, rows, columns, points)`, such as
            `FeatureTeacher`. None for none.
        feature_weight: factor of the feature loss; 0 for none.
        correspondence_weight: factor of the correspondence loss; 0 for none.
        sharpness: as of `correspondence_loss`.
        background_weight: as of `correspondence_loss`.
        image_chunk_size: as of `ContrastiveTrainer`; the losses go along.
        loss_chunk_size: rows of all images' (patches, patches) matrices held at once,
            over all devices; None for all of a chunk's.

    Raises:
        ValueError: if an option makes no sense. By `fit`, if a batch lacks an array
            that is needed or has one that nothing reads.

    Source: Perception Encoder, section 5.2, appendices B.3.1 and E.3.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PESpatial, PEVisionEncoder
        >>> core = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> trainer = SpatialAlignmentTrainer(PESpatial.from_core(core), core,
        ...     mask_teacher="teacher")
        >>> trainer.compile(keras.optimizers.AdamW(1e-3))
        >>> batch = {"images": np.zeros((4, 16, 16, 3), "float32"),
        ...     "masked_patches": np.array([[True, False, False, True]] * 4)}
        >>> batches = ((batch,) for batch in [batch])
        >>> history = trainer.fit(batches, steps_per_epoch=1, verbose=0)
        >>> sorted(history.history)
        ['correspondence_loss', 'feature_loss', 'loss']
    """

    known_arrays = ("images", "masked_patches", "mask_rows", "background")
    logged_terms = ("feature_loss", "correspondence_loss")

    def __init__(
        self,
        student: TokenEncoder,
        teacher: TokenEncoder | None = None,
        teacher_layer: int | Literal["auto"] = "auto",
        mask_teacher: MaskTeacher | Literal["batch", "teacher"] | None = "batch",
        feature_weight: float = 1.0,
        correspondence_weight: float = 1.0,
        sharpness: float | None = SHARPNESS,
        background_weight: float = 1.0,
        image_chunk_size: int | None = None,
        loss_chunk_size: int | None = None,
        name: str | None = None,
    ) -> None:
        if student is teacher:
            raise ValueError("Student and teacher are the same model: give a copy.")
        self.of_features, self.of_pairs = check_losses(
            teacher is not None,
            mask_teacher,
            feature_weight,
            correspondence_weight,
            background_weight,
        )
        super().__init__(
            student,
            name or "spatial_alignment_trainer",
            image_chunk_size=image_chunk_size,
            loss_chunk_size=loss_chunk_size,
        )
        self.teacher, self.teacher_layer = teacher, 0
        self.mask_teacher = mask_teacher
        # Layers of this model: else JAX compiles their weights into the step.
        self.mask_models = list(getattr(mask_teacher, "models", ()))
        for model in self.mask_models:
            model.trainable = False
        self.feature_weight = feature_weight
        self.correspondence_weight = correspondence_weight
        self.sharpness = sharpness
        self.background_weight = background_weight
        self.needed_arrays = ("images",)
        if self.of_pairs and mask_teacher == "batch":
            self.needed_arrays += ("mask_rows",)
        self.feature_metric = self.correspondence_metric = None
        if self.of_features:
            self.feature_metric = Latest("feature_loss")
        if self.of_pairs:
            self.correspondence_metric = Latest("correspondence_loss")
        # Parts of the training, not of the model: published encoders have neither.
        self.mask_embedding = self.add_weight(
            shape=(student.mask_dim,),
            dtype="float32",
            initializer=RandomNormal(stddev=student.mask_dim**-0.5),
            name="mask_embedding",
        )
        self.projection = None
        if teacher is not None:
            teacher.trainable = False
            if teacher_layer == "auto":
                teacher_layer = aligned_layer(teacher.num_layers)
            (self.teacher_layer,) = resolve_layers(teacher_layer, teacher.num_layers)
            if self.of_features and teacher.hidden_dim != student.hidden_dim:
                self.projection = Dense(
                    teacher.hidden_dim, dtype=self.dtype_policy, name="projection"
                )
                self.projection.build((None, None, student.hidden_dim))
        self.built = True

    @property
    def teachers(self) -> tuple[keras.Model, ...]:
        """The frozen models, which a run's checkpoint leaves out."""
        own = () if self.teacher is None else (self.teacher,)
        return (*own, *self.mask_models)

    # === Forward ===
    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        """Returns `feature_loss` and `correspondence_loss`, scalars, as asked for."""
        self.check_inputs(inputs)
        rows = {name: array for name, array in inputs.items() if array is not None}
        masks = rows.pop("masked_patches", None)
        if training and masks is None:
            raise ValueError(
                "Training needs masked_patches in every batch, got "
                f"{sorted(inputs)}. keras_pe.training.masked_patches draws them; of "
                f"zeros, the student sees all."
            )
        if training:
            # TensorFlow recomputes no function of bool: it would have a gradient.
            rows["masks"] = ops.cast(masks, "int32")
        losses = self.in_chunks(
            lambda chunk: self._of_chunk(chunk, training),
            rows,
            self.image_chunk_size,
            training,
            self.model,
        )
        return {name: ops.mean(loss) for name, loss in losses.items()}

    def _of_chunk(self, chunk: dict[str, Any], training: bool | None) -> dict[str, Any]:
        """Returns each loss of some images, `(1,)`: one a chunk."""
        factors = take_drop_path(chunk)
        student, images = self.model, chunk["images"]
        masks = chunk.get("masks")
        hidden = None if masks is None else ops.convert_to_tensor(self.mask_embedding)
        (tokens,) = student.layer_tokens(  # (rows, tokens, hidden_dim)
            images,
            [-1],
            masked_patches=masks,
            mask_embedding=hidden,
            drop_path_factors=factors,
            training=training,
        )
        tokens = tokens[:, student.prefix_tokens :]
        grid = student.grid(images.shape)
        taught, losses = None, {}
        if self.teacher is not None and (
            self.of_features or self.mask_teacher == "teacher"
        ):
            taught = grid_tokens(self.teacher, images, self.teacher_layer, grid)
        if self.of_features:
            seen = tokens if self.projection is None else self.projection(tokens)
            losses["feature_loss"] = feature_alignment_loss(seen, taught)
        if self.of_pairs:
            size = self.loss_chunk_size
            losses["correspondence_loss"] = correspondence_loss(
                tokens,
                self._mask_rows(chunk, grid, taught),
                sharpness=self.sharpness,
                background=chunk.get("background"),
                background_weight=self.background_weight,
                chunk_size=None if size is None else loss_rows(size),
            )
        return {name: ops.reshape(loss, (1,)) for name, loss in losses.items()}

    def _mask_rows(self, chunk: Any, grid: tuple[int, int], taught: Any) -> Any:
        if self.mask_teacher == "batch":
            return chunk["mask_rows"]
        if self.mask_teacher == "teacher":
            return taught
        assert callable(self.mask_teacher)
        rows = self.mask_teacher(chunk["images"], grid)
        return ops.reshape(rows, (-1, grid[0] * grid[1], rows.shape[-1]))

    # === Loss ===
    @property
    def loss_weights(self) -> dict[str, float]:
        """The factors of the terms that a step minimises, by their metrics' names."""
        return {
            "feature_loss": self.feature_weight,
            "correspondence_loss": self.correspondence_weight,
        }

    def terms(self, x: Mapping[str, Any], y_pred: Any) -> Iterator[Term]:
        if self.feature_metric is not None:
            loss = y_pred["feature_loss"]
            yield Term(self.feature_metric, loss, self.feature_weight)
        if self.correspondence_metric is not None:
            loss = y_pred["correspondence_loss"]
            yield Term(self.correspondence_metric, loss, self.correspondence_weight)

    # === Saving ===
    def get_config(self) -> dict[str, Any]:
        if callable(self.mask_teacher):
            raise ValueError(
                f"{self.name} has a function as its mask teacher, which no file holds. "
                f"Save the student, or train on mask_rows in the batches."
            )
        config = super().get_config()
        teacher = None
        if self.teacher is not None:
            teacher = keras.saving.serialize_keras_object(self.teacher)
        return {
            "student": config.pop("model"),
            **config,
            "teacher": teacher,
            "teacher_layer": self.teacher_layer,
            "mask_teacher": self.mask_teacher,
            "feature_weight": self.feature_weight,
            "correspondence_weight": self.correspondence_weight,
            "sharpness": self.sharpness,
            "background_weight": self.background_weight,
        }


def check_weights(**weights: Any) -> None:
    """Raises ValueError for the first weight that is no number of at least 0."""
    for option, weight in weights.items():
        if not is_number(weight) or weight < 0:
            raise ValueError(f"{option} must be 0 or more, got {weight!r}.")


def check_losses(
    has_teacher: bool,
    mask_teacher: Any,
    feature_weight: float,
    correspondence_weight: float,
    background_weight: float,
) -> tuple[bool, bool]:
    """Returns whether features, and whether pairs of patches, are taught.

    Raises:
        ValueError: if a weight makes no sense, or nothing is taught.
    """
    check_weights(
        feature_weight=feature_weight,
        correspondence_weight=correspondence_weight,
        background_weight=background_weight,
    )
    if not has_teacher and mask_teacher == "teacher":
        raise ValueError('mask_teacher="teacher" needs a teacher, got None.')
    of_features = has_teacher and feature_weight > 0
    of_pairs = mask_teacher is not None and correspondence_weight > 0
    if not of_features and not of_pairs:
        raise ValueError(
            "Nothing is taught: give a teacher with a feature_weight, a "
            "mask_teacher with a correspondence_weight, or both."
        )
    return of_features, of_pairs


def aligned_layer(num_layers: int) -> int:
    """Returns the layer that teaches: the paper's share, 41 of 50.

    Source: Perception Encoder, section 5.2, which finds layers near it as good.

    Example:
        >>> [aligned_layer(n) for n in (50, 24, 12, 6)]
        [41, 20, 10, 5]
    """
    return max(round(0.82 * num_layers), 1)
