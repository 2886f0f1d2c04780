"""Training: stages that are `keras.Model`s, optimizers, and runs that can be resumed.

What is here runs on any backend. Several devices: `keras_pe.training.distribution`
(any backend), `sharding` (JAX) and `torch_loop` (PyTorch).
"""

from keras_pe.training.contrastive import ContrastiveTrainer
from keras_pe.training.curves import draw_curves
from keras_pe.training.distillation import DistillationTrainer
from keras_pe.training.gradient_watch import (
    GradientWatch,
    WatchedAdamW,
    watched,
)
from keras_pe.training.guards import NonFiniteError, StopOnNonFinite
from keras_pe.training.lamb import Lamb, WatchedLamb
from keras_pe.training.patch_sampling import kept_patches, masked_patches
from keras_pe.training.plan import TrainingPlan, plan_training
from keras_pe.training.resolution import (
    ABLATION_STAGES,
    PlannedStage,
    ResolutionStage,
    extended,
    plan_stages,
    rescaled,
)
from keras_pe.training.run import TrainingRun
from keras_pe.training.run_checkpoint import RunCheckpoints, collect, restore
from keras_pe.training.schedules import WarmupCosine, WarmupLinear

__all__ = [
    "ABLATION_STAGES",
    "ContrastiveTrainer",
    "DistillationTrainer",
    "GradientWatch",
    "Lamb",
    "NonFiniteError",
    "PlannedStage",
    "ResolutionStage",
    "RunCheckpoints",
    "StopOnNonFinite",
    "TrainingPlan",
    "TrainingRun",
    "WarmupCosine",
    "WarmupLinear",
    "WatchedAdamW",
    "WatchedLamb",
    "collect",
    "draw_curves",
    "extended",
    "kept_patches",
    "masked_patches",
    "plan_stages",
    "plan_training",
    "rescaled",
    "restore",
    "watched",
]
