"""Contrastive pretraining from a configuration: what its recipes run."""

from keras_pe.models.core import PECore
from keras_pe.training.devices.setup import check_layout
from keras_pe.training.run.config import (
    RunConfig,
    build_model,
    build_trainer,
    freeze,
)
from keras_pe.training.run.initial_weights import load_initial_weights
from keras_pe.training.run.stage_run import RunData, RunOptions, run_stage
from keras_pe.training.stages.contrastive_trainer import ContrastiveTrainer


def train(config: RunConfig, data: RunData, options: RunOptions) -> PECore:
    """Trains a model and leaves weights, logs and curves in a directory.

    Args:
        config: the run.
        data: what it is trained on and scored by.
        options: where it goes, and from which weights.

    Returns:
        The trained model.

    Raises:
        ValueError: if the configuration can't run, or the directory holds another run.
    """

    def build() -> ContrastiveTrainer:
        model = build_model(config)
        if options.initial_weights is not None:
            load_initial_weights(model, options.initial_weights)
        freeze(model, config.freeze)
        trainer = build_trainer(config, model)
        check_layout(trainer)
        return trainer

    return run_stage(config, build, data, options)
