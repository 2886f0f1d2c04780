"""Distillation of a large dual encoder into a small one."""

from typing import Any

import keras
from keras import ops

from keras_pe.losses.distillation import (
    chunked_kl_distillation_loss,
    kl_distillation_loss,
)
from keras_pe.models.core import PECore, l2_normalize
from keras_pe.training.chunked import map_chunks, merge_rows
from keras_pe.training.contrastive import ContrastiveTrainer
from keras_pe.training.distribution import cross_replica_gather


@keras.saving.register_keras_serializable("keras_pe")
class DistillationTrainer(ContrastiveTrainer):
    """Trains a student to match how a teacher ranks the pictures and texts of a batch.

    Batches are those of `ContrastiveTrainer`, with pictures of the teacher's size, and
    `teacher_token_ids` where the teacher has another tokenizer. The teacher runs in the
    chunks of the student.

    Args:
        student: the dual encoder that is trained, in place.
        teacher: the dual encoder that is matched; frozen by this.
        teacher_logit_scale: factor of the teacher's cosines. The paper's 200 is twice
            the student's limit: a sharper distribution than the teacher was trained
            with.
        image_size: side of the student's pictures; None for the teacher's. They are
            scaled down on the device.
        teacher_dtype: dtype policy of the teacher; None for the student's. A teacher
            of another policy is copied into this one: `trainer.teacher`. Softmax,
            norms and embeddings stay float32.
        options: those of `ContrastiveTrainer`, but for masks, "sigmoid" and "ignore".

    Raises:
        ValueError: if an option makes no sense here.

    Source: Perception Encoder, section 2.4, appendix C.3 and table 20.

    Example:
        >>> trainer = DistillationTrainer(student, teacher)           # doctest: +SKIP
        >>> trainer.compile(keras_pe.training.Lamb(1e-6))             # doctest: +SKIP
    """

    known_arrays = ("images", "token_ids", "teacher_token_ids", "kept_patches")

    def __init__(
        self,
        student: PECore,
        teacher: PECore,
        teacher_logit_scale: float = 200.0,
        image_size: int | None = None,
        teacher_dtype: str | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        fixed = (("loss", "softmax"), ("duplicates", "negative"), ("mask_weight", 0.0))
        for option, only in fixed:
            if options.get(option, only) != only:
                raise ValueError(
                    f"Distillation matches softmax distributions over whole pictures "
                    f"and the whole batch, got {option}={options[option]!r}. Leave "
                    f"it out."
                )
        if student is teacher:
            raise ValueError("Student and teacher are the same model.")
        super().__init__(student, name=name or "distillation_trainer", **options)
        teacher.trainable = False
        self.teacher = in_policy(teacher, teacher_dtype or self.dtype_policy.name)
        self.teacher_logit_scale = teacher_logit_scale
        self.image_size = image_size

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        images = inputs["images"]
        taught = {
            "teacher_image_embeddings": self._taught(
                self.teacher.vision_encoder, images, self.image_chunk_size, training
            ),
            "teacher_text_embeddings": self._taught(
                self.teacher.text_encoder,
                inputs.get("teacher_token_ids", inputs["token_ids"]),
                self.text_chunk_size,
                training,
            ),
        }
        if self.image_size is not None:
            images = _square(images, self.image_size)
        return {**super().call({**inputs, "images": images}, training), **taught}

    def vocabularies(self) -> dict[str, int]:
        """Returns for each array of token ids how many ids there are."""
        teacher = self.teacher.text_encoder.vocabulary_size
        return {**super().vocabularies(), "teacher_token_ids": teacher}

    def _taught(
        self, tower: Any, x: Any, chunk_size: int | None, training: bool | None
    ) -> Any:
        """Returns a teacher tower's embeddings `(batch, channels)`, as constants."""
        chunks = self._num_chunks(x, chunk_size, training)
        if chunks == 1:
            return ops.stop_gradient(l2_normalize(tower(x, training=False)))

        def encode(chunk: dict[str, Any]) -> Any:
            return ops.stop_gradient(l2_normalize(tower(chunk["x"], training=False)))

        return ops.stop_gradient(merge_rows(map_chunks(encode, {"x": x}, chunks)))

    def _contrastive_loss(self, x: Any, y_pred: Any, scale: Any) -> Any:
        arguments = (
            y_pred["image_embeddings"],
            y_pred["text_embeddings"],
            scale,
            y_pred["teacher_image_embeddings"],
            y_pred["teacher_text_embeddings"],
            self.teacher_logit_scale,
        )
        gather = cross_replica_gather()
        if self.loss_chunk_size is None:
            return kl_distillation_loss(*arguments, gather=gather)
        return chunked_kl_distillation_loss(
            *arguments, chunk_size=self._loss_rows(), gather=gather
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        student = config.pop("model")
        for option in ("loss", "duplicates", "mask_weight"):  # fixed here
            del config[option]
        return {
            **config,
            "student": student,
            "teacher": keras.saving.serialize_keras_object(self.teacher),
            "teacher_logit_scale": self.teacher_logit_scale,
            "image_size": self.image_size,
            "teacher_dtype": self.teacher.vision_encoder.dtype_policy.name,
        }


def _square(images: Any, side: int) -> Any:  # (batch, height, width, 3)
    """Returns square pictures of a side, scaled if they have another one."""
    height, width = images.shape[1:3]
    if height != width:
        raise ValueError(
            f"image_size={side} makes square pictures of square ones, got {height}x"
            f"{width}. Give square pictures, or no image_size."
        )
    if height == side:
        return images
    return ops.image.resize(
        images, (side, side), antialias=True, data_format="channels_last"
    )


def in_policy(model: PECore, policy: str) -> PECore:
    """Returns a model under a dtype policy: itself, or a copy with its weights.

    Raises:
        ValueError: if its weights do not fit a model that is made anew, as those of
            LoRA or of quantised layers.
    """
    towers = (model.vision_encoder, model.text_encoder)
    if all(tower.dtype_policy.name == policy for tower in towers):
        return model
    vision, text = (
        type(tower).from_config({**tower.get_config(), "dtype": policy})
        for tower in towers
    )
    copy = PECore(vision, text, name=model.name, max_logit_scale=model.max_logit_scale)
    shapes = [[tuple(w.shape) for w in found.weights] for found in (model, copy)]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"{model.name} can't be copied into {policy}: it has LoRA or quantised "
            f"weights. Give teacher_dtype={towers[0].dtype_policy.name!r} to take it "
            f"as it is."
        )
    for ours, theirs in zip(copy.weights, model.weights, strict=True):
        ours.assign(theirs)
    copy.trainable = False
    return copy
