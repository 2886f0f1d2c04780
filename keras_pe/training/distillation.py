"""Distillation of a large dual encoder into a small one."""

from typing import Any

from keras import ops

from keras_pe.losses.distillation import (
    chunked_kl_distillation_loss,
    kl_distillation_loss,
)
from keras_pe.models.core import PECore
from keras_pe.training.contrastive import ContrastiveTrainer
from keras_pe.training.distribution import cross_replica_gather


class DistillationTrainer(ContrastiveTrainer):
    """Trains a student to match how a teacher ranks the pictures and texts of a batch.

    Batches are those of `ContrastiveTrainer`, with pictures of the teacher's size, and
    `teacher_token_ids` where the teacher has another tokenizer.

    Args:
        student: the dual encoder that is trained, in place.
        teacher: the dual encoder that is matched; frozen by this.
        teacher_logit_scale: factor of the teacher's cosines. The paper's 200 is twice
            the student's limit: a sharper distribution than the teacher was trained
            with.
        image_size: side of the student's pictures; None for the teacher's. They are
            scaled down on the device.
        options: those of `ContrastiveTrainer`, but for masks, "sigmoid" and "ignore".

    Raises:
        ValueError: if an option makes no sense here.

    Source: Perception Encoder, section 2.4, appendix C.3 and table 20.

    Example:
        >>> trainer = DistillationTrainer(student, teacher)           # doctest: +SKIP
        >>> trainer.compile(keras_pe.training.Lamb(1e-6))             # doctest: +SKIP
    """

    def __init__(
        self,
        student: PECore,
        teacher: PECore,
        teacher_logit_scale: float = 200.0,
        image_size: int | None = None,
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
        self.teacher = teacher
        self.teacher_logit_scale = teacher_logit_scale
        self.image_size = image_size

    def call(self, inputs: dict[str, Any], training: bool | None = None) -> Any:
        images = inputs["images"]
        taught = {
            "images": images,
            "token_ids": inputs.get("teacher_token_ids", inputs["token_ids"]),
        }
        embeddings = self.teacher(taught, training=False)
        if self.image_size not in (None, images.shape[1]):
            size = (self.image_size, self.image_size)
            images = ops.image.resize(images, size, antialias=True)
        outputs = super().call({**inputs, "images": images}, training)
        for side in ("image_embeddings", "text_embeddings"):
            outputs[f"teacher_{side}"] = ops.stop_gradient(embeddings[side])
        return outputs

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
            *arguments, chunk_size=self.loss_chunk_size, gather=gather
        )
