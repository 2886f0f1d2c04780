"""The command-line options that all training recipes share."""

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from keras_pe.training.resolution import rescaled
from recipes.contrastive_configs import Config
from recipes.data_check import check_validation
from recipes.many_devices import add_device_arguments, start_devices


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where a run's data, weights and results are, and its devices."""
    parser.add_argument("--data", help="emoji directory, or pattern of tar shards")
    parser.add_argument("--validation-data", help="pattern of tar shards")
    parser.add_argument(
        "--data-validation",
        metavar="FOLDER",
        help="output of validate_data.py; default: 'validation' beside the shards",
    )
    parser.add_argument(
        "--allow-anomalies",
        nargs="*",
        metavar="FEATURE",
        help="train on shards with anomalies, in all or in these features",
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="VENDOR")
    parser.add_argument(
        "--initial-weights",
        metavar="SOURCE",
        help="fine-tune: .weights.h5 file, published checkpoint, or preset",
    )
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--evaluate-every", type=int, default=250)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    add_device_arguments(parser)


def start_run(options: argparse.Namespace, dataset: str) -> dict[str, Any]:
    """Starts the devices, looks at the data's validation.

    Args:
        options: the parsed command line.
        dataset: "shards" or "emoji".

    Returns:
        Arguments of a recipe's `train`, by name.

    Raises:
        SystemExit: if data or output are not given.
        DataValidationError: if the shards did not pass their validation.
    """
    if options.data is None or options.output is None:
        raise SystemExit("Training needs --data and --output.")
    start_devices(options)
    if dataset == "shards":
        allowed = options.allow_anomalies
        # Without names: all of them.
        check_validation(
            options.data, options.data_validation, allowed or allowed is not None
        )
    return {
        "data": options.data,
        "output": options.output,
        "resume": options.resume,
        "validation_data": options.validation_data,
        "leave_out": tuple(options.leave_out),
        "initial_weights": options.initial_weights,
        "workers": options.workers,
        "save_every": options.save_every,
        "evaluate_every": options.evaluate_every,
        "progress": not options.quiet,
    }


# === Changes of a configuration ===
OVERRIDES: dict[str, Callable[[str], Any]] = {
    "seed": int,
    "batch_size": int,
    "learning_rate": float,
    "warmup_steps": int,
    "image_chunk_size": int,
    "text_chunk_size": int,
    "loss_chunk_size": int,
    "precision": str,
}


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds what a user may change without writing a configuration."""
    parser.add_argument("--samples", type=int, help="pairs of the run, over all stages")
    for name, kind in OVERRIDES.items():
        flag = "--" + name.replace("_", "-")
        parser.add_argument(flag, type=kind, help="instead of the configuration's")


def with_overrides(config: Config, options: argparse.Namespace) -> Config:
    """Returns a configuration with what the command line changes."""
    given = {name: getattr(options, name) for name in OVERRIDES}
    changes = {name: value for name, value in given.items() if value is not None}
    config = dataclasses.replace(config, **changes)
    if options.samples is not None:
        stages = tuple(rescaled(config.stages, options.samples))
        config = dataclasses.replace(config, stages=stages)
    return config
