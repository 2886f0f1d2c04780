"""Training: trainers that are `keras.Model`s, optimizers, and runs that can be resumed.

What is here runs on any backend. Several devices: `keras_pe.training.devices`, where
`distribution` is for any backend, `sharding` for JAX and `torch_loop` for PyTorch.

What the recipes run is here too: a configuration (`RunConfig`, `DistillConfig`,
`LanguageConfig`), data (`ShardData`, `QuestionData`), where the run goes
(`RunOptions`), and `pretrain`, `distill` or `align_language` of the three.
"""

import importlib
from typing import TYPE_CHECKING, Any

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
from keras_pe.training.run.config import DistillConfig, RunConfig, small_towers
from keras_pe.training.run.initial_weights import copy_spaced_blocks, with_architecture
from keras_pe.training.run.language_config import LanguageConfig
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

if TYPE_CHECKING:
    from keras_pe.training.run.align_language import align_language
    from keras_pe.training.run.question_data import QuestionData
    from keras_pe.training.run.shard_data import ShardData
    from keras_pe.training.run.train import RunOptions, distill, pretrain

__all__ = [
    "ABLATION_STAGES",
    "CachedTeacher",
    "ContrastiveTrainer",
    "DistillConfig",
    "DistillationTrainer",
    "FeatureTeacher",
    "GradientWatch",
    "Lamb",
    "LanguageAlignmentTrainer",
    "LanguageConfig",
    "NonFiniteError",
    "PlannedStage",
    "QuestionData",
    "ResolutionStage",
    "RunCheckpoints",
    "RunConfig",
    "RunOptions",
    "SamTeacher",
    "ShardData",
    "SpatialAlignmentTrainer",
    "StopOnNonFinite",
    "TrainingPlan",
    "TrainingRun",
    "WarmupCosine",
    "WarmupLinear",
    "WatchedAdamW",
    "WatchedLamb",
    "align_language",
    "background_share",
    "collect",
    "copy_spaced_blocks",
    "distill",
    "draw_curves",
    "extended",
    "kept_patches",
    "masked_patches",
    "plan_stages",
    "plan_training",
    "pretrain",
    "rescaled",
    "restore",
    "shape_rows",
    "small_towers",
    "watched",
    "with_architecture",
    "with_mask_rows",
]

# Imported on first use, so that trainers work without grain, which these need.
_NEED_GRAIN = {
    "QuestionData": "question_data",
    "RunOptions": "train",
    "ShardData": "shard_data",
    "align_language": "align_language",
    "distill": "train",
    "pretrain": "train",
}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name not in _NEED_GRAIN:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"{__name__}.run.{_NEED_GRAIN[name]}")
    except ModuleNotFoundError as error:
        raise ImportError(
            f"keras_pe.training.{name} needs {error.name}, which is not installed: pip "
            'install "keras-pe[train]".'
        ) from error
    return getattr(module, name)
