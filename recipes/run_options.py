"""The command-line options that all training recipes share."""

import argparse
from pathlib import Path
from typing import Any

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
