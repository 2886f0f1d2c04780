"""Distillation from a configuration: what its recipes run."""

import dataclasses
from typing import Any

from keras_pe.models.core import PECore
from keras_pe.preprocessing.text_inputs import check_tokenizer
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.training.run.config import (
    DistillConfig,
    build_model,
    build_optimizer,
    build_tokenizer,
    freeze,
)
from keras_pe.training.run.initial_weights import (
    copy_spaced_blocks,
    load_initial_weights,
)
from keras_pe.training.run.stage_run import RunData, RunOptions, run_stage
from keras_pe.training.stages.distillation_trainer import DistillationTrainer


class BothTokenizers:
    """Makes a student's and a teacher's token ids of the same captions."""

    def __init__(self, student: PETokenizer, teacher: PETokenizer) -> None:
        self.student, self.teacher = student, teacher

    def __call__(self, captions: list[str]) -> dict[str, Any]:
        return {
            "token_ids": self.student(captions),
            "teacher_token_ids": self.teacher(captions),
        }


def train(config: DistillConfig, data: RunData, options: RunOptions) -> PECore:
    """Distils a student; arguments and output as in `pretrain.train` beside this."""
    of_student = config.student
    teacher = PETokenizer.from_preset(config.teacher)
    captions = BothTokenizers(build_tokenizer(of_student), teacher)

    def build() -> DistillationTrainer:
        teacher = PECore.from_preset(config.teacher, dtype=of_student.precision)
        check_tokenizer(captions.teacher, teacher)
        student = build_model(of_student)
        if options.initial_weights is not None:
            load_initial_weights(student, options.initial_weights)
        elif config.start == "blocks":
            copy_spaced_blocks(teacher, student)
        freeze(student, of_student.freeze)
        trainer = DistillationTrainer(
            student,
            teacher,
            teacher_logit_scale=config.teacher_logit_scale,
            image_size=student.vision_encoder.image_size,
            image_chunk_size=of_student.image_chunk_size,
            text_chunk_size=of_student.text_chunk_size,
            loss_chunk_size=of_student.loss_chunk_size,
        )
        trainer.compile(optimizer=build_optimizer(of_student))
        return trainer

    settings = dataclasses.asdict(config)
    return run_stage(of_student, build, data, options, settings, captions)
