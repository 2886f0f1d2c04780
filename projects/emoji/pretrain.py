"""The bundled model: contrastive pretraining on drawings of emoji.

Run:      python -m projects.emoji.pretrain --config emoji --data data/emoji \\
              --output runs/emoji
Go on:    the same with --resume, after any stop, a power cut included.
Expect:   what `recipes.pretrain` leaves; the tables in projects/emoji/README.md.

`python -m projects.emoji.data.prepare --output data/emoji` makes the data. --settings
prints every setting of a run, --set NAME=VALUE changes any of them. The fastest backend
on a CPU is PyTorch: KERAS_BACKEND=torch, and where the CPU has AMX --precision
mixed_bfloat16.
"""

import argparse

# Before Keras: takes a backend that is installed.
from keras_pe import PECore

# isort: split
from keras_pe.training.devices.setup import check_layout
from keras_pe.training.run.config import (
    RunConfig,
    build_model,
    build_trainer,
    freeze,
)
from keras_pe.training.run.initial_weights import load_initial_weights
from keras_pe.training.run.options import (
    add_config,
    add_overrides,
    add_run_arguments,
    print_settings,
    with_overrides,
)
from keras_pe.training.run.stage_run import RunData, RunOptions, run_stage
from keras_pe.training.run.start import AFTER_STOP, OF_A_RUN, said_plainly, start_run
from keras_pe.training.stages.contrastive import ContrastiveTrainer
from projects.emoji.configs import CONFIGS
from projects.emoji.drawings_data import (
    DrawingsData,
    add_drawings_arguments,
    check_drawings,
)


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


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m projects.emoji.pretrain",
        usage="%(prog)s --config NAME --data DATA --output FOLDER [options]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser, CONFIGS)
    add_drawings_arguments(parser)
    add_run_arguments(parser)
    add_overrides(parser)
    return parser.parse_args(arguments)


def main() -> None:
    """Trains."""
    options = parse()
    with said_plainly():
        config = with_overrides(CONFIGS[options.config], options)
        if options.list_settings:
            print_settings(config)
            return
        run = start_run(options, config, check_drawings)
        data = DrawingsData(options.data, tuple(options.leave_out))
    with said_plainly(OF_A_RUN, AFTER_STOP):
        train(config, data, run)


if __name__ == "__main__":
    main()
