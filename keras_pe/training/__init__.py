"""Training: trainers that are `keras.Model`s, optimizers, and runs that can be resumed.

What is here runs on any backend. Several devices: `keras_pe.training.devices`, where
`distribution` is for any backend, `sharding` for JAX and `torch_loop` for PyTorch.
"""

from keras_pe.arrays import NonFiniteError
from keras_pe.training.optimizers.gradient_watch import (
    GradientWatch,
    StopOnNonFinite,
    WatchedAdamW,
    watched,
)
from keras_pe.training.optimizers.lamb import Lamb, WatchedLamb
from keras_pe.training.optimizers.schedules import WarmupCosine, WarmupLinear
from keras_pe.training.resolution import (
    ABLATION_STAGES,
    PlannedStage,
    ResolutionStage,
    extended,
    plan_stages,
    rescaled,
)
from keras_pe.training.run.checkpoint import RunCheckpoints, collect, restore
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.log import draw_curves
from keras_pe.training.run.plan import TrainingPlan, plan_training
from keras_pe.training.run.training_run import TrainingRun
from keras_pe.training.teachers.cached import CachedTeacher, with_mask_rows
from keras_pe.training.teachers.features import FeatureTeacher
from keras_pe.training.teachers.sam import SamTeacher
from keras_pe.training.teachers.shapes import background_share, shape_rows
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from keras_pe.training.trainers.distillation_trainer import DistillationTrainer
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer
from keras_pe.training.trainers.patch_masking import kept_patches, masked_patches
from keras_pe.training.trainers.spatial_trainer import SpatialAlignmentTrainer

__all__ = [
    "ABLATION_STAGES",
    "CachedTeacher",
    "ContrastiveTrainer",
    "DistillationTrainer",
    "FeatureTeacher",
    "GradientWatch",
    "Lamb",
    "LanguageAlignmentTrainer",
    "NonFiniteError",
    "PlannedStage",
    "ResolutionStage",
    "RunCheckpoints",
    "RunConfig",
    "SamTeacher",
    "SpatialAlignmentTrainer",
    "StopOnNonFinite",
    "TrainingPlan",
    "TrainingRun",
    "WarmupCosine",
    "WarmupLinear",
    "WatchedAdamW",
    "WatchedLamb",
    "background_share",
    "collect",
    "draw_curves",
    "extended",
    "kept_patches",
    "masked_patches",
    "plan_stages",
    "plan_training",
    "rescaled",
    "restore",
    "shape_rows",
    "watched",
    "with_mask_rows",
]
