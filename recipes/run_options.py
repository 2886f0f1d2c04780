"""The command-line options that all training recipes share."""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from os.path import isfile
from pathlib import Path
from typing import Any

from keras_pe.data import SampleError, TarShardError, TooManySkipped
from keras_pe.data.array_record_shards import ArrayRecordError
from keras_pe.data.loader import LoaderStalled
from keras_pe.data.shard_files import expand_paths
from keras_pe.presets import CheckpointError
from keras_pe.training import NonFiniteError
from keras_pe.training.resolution import ResolutionStage, extended, rescaled
from keras_pe.training.run.training_run import RunMismatch
from recipes.architecture import with_architecture
from recipes.config_checks import check_config, check_towers
from recipes.contrastive_configs import Config
from recipes.data_check import check_validation
from recipes.many_devices import add_device_arguments, start_devices
from recipes.settings import parse_value, setting_values, with_settings
from recipes.shard_batches import START_TIMEOUT, open_shards


def add_config(parser: argparse.ArgumentParser, configs: Iterable[str]) -> None:
    """Adds the choice of a named configuration."""
    names = list(configs)
    parser.add_argument(
        "--config",
        choices=names,
        default="emoji",
        metavar="NAME",
        help=f"one of {', '.join(names)} (default emoji)",
    )


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where a run's data, weights and results are, and its devices."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        help="emoji directory; or shards: a folder, a pattern ('data/{000..099}.tar', "
        "'data/*.tar') or a URL that fsspec opens",
    )
    group.add_argument(
        "--validation-data", metavar="SHARDS", help="to measure retrieval on"
    )
    group.add_argument(
        "--caption-key",
        metavar="NAME",
        help="text file or JSON field with the captions; by default txt, caption, "
        "captions or text",
    )
    group.add_argument(
        "--max-bad-share",
        type=float,
        metavar="SHARE",
        help="share of unusable samples above which the run stops (default 0.01)",
    )
    group.add_argument(
        "--data-validation",
        metavar="FOLDER",
        help="output of validate_data.py; default: 'validation' beside the shards",
    )
    group.add_argument(
        "--allow-anomalies",
        nargs="*",
        metavar="FEATURE",
        help="train on shards with anomalies, in all or in these features",
    )
    group.add_argument(
        "--leave-out",
        nargs="*",
        default=[],
        metavar="VENDOR",
        help="vendors of emoji to train without",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that prepare batches of shards; 0: threads (default)",
    )
    group.add_argument(
        "--start-timeout",
        type=float,
        default=START_TIMEOUT,
        metavar="SECONDS",
        help="for a worker to start, of its own computing time on Linux "
        "(default %(default)g)",
    )
    group = parser.add_argument_group("weights")
    group.add_argument(
        "--initial-weights",
        metavar="SOURCE",
        help="fine-tune: a preset (name, directory, hf:// or kaggle:// handle), a "
        "published checkpoint, or a .weights.h5 file",
    )
    group.add_argument(
        "--architecture",
        choices=("config", "weights"),
        help="whose towers: the configuration's, or those of --initial-weights "
        "(default with --config finetune)",
    )
    group.add_argument(
        "--freeze",
        choices=("none", "vision", "text"),
        help="tower whose weights stay as they are",
    )
    group = parser.add_argument_group("the run")
    group.add_argument("--output", type=Path, metavar="FOLDER", help="for everything")
    group.add_argument(
        "--resume", action="store_true", help="go on from the newest checkpoint"
    )
    group.add_argument(
        "--extend",
        action="store_true",
        help="with --resume and --samples: the last stage goes on until the run has "
        "so many; the learning rate is that of the longer schedule from there on",
    )
    group.add_argument(
        "--save-every", type=int, default=100, metavar="STEPS", help="(default 100)"
    )
    group.add_argument(
        "--evaluate-every", type=int, default=250, metavar="STEPS", help="(default 250)"
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    add_device_arguments(parser)


# === Changes of a configuration ===
# Those with a flag of their own; `--set` reaches all.
OVERRIDES = {
    "batch_size": "pairs of a step, over all devices; 2 or more",
    "learning_rate": "its peak",
    "warmup_steps": "steps until the peak",
    "seed": "of weights, data order, augmentation and masks",
    "image_chunk_size": "pictures that go through the tower at once: less memory",
    "text_chunk_size": "texts that do",
    "loss_chunk_size": "rows of the loss matrix held at once",
    "precision": "Keras dtype policy, such as mixed_bfloat16",
}
# Flags that `add_run_arguments` has in other groups.
ELSEWHERE = ("caption_key", "max_bad_share", "freeze")


def add_overrides(parser: argparse.ArgumentParser) -> None:
    """Adds what a user may change without writing a configuration."""
    group = parser.add_argument_group("settings, in the place of the configuration's")
    group.add_argument("--samples", metavar="N", help="pairs of the run, all stages")
    for name, said in OVERRIDES.items():
        flag = "--" + name.replace("_", "-")
        group.add_argument(flag, metavar="VALUE", help=said)
    group.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="NAME=VALUE",
        help="any setting, such as mask_weight=0 or vision.num_layers=6; repeatable",
    )
    group.add_argument(
        "--settings",
        action="store_true",
        dest="list_settings",
        help="print all settings of the run with their values, and stop",
    )


def with_overrides(config: Config, options: argparse.Namespace) -> Config:
    """Returns a configuration with what the command line changes.

    Args:
        config: the named one.
        options: the parsed command line.

    Raises:
        ValueError: if a setting is unknown, of another type or impossible.
    """
    config = with_weights_architecture(config, options)
    config = with_settings(config, [*flag_settings(options), *options.settings])
    return with_samples(config, options)


def with_weights_architecture(config: Config, options: argparse.Namespace) -> Config:
    """Returns a configuration with the towers of the initial weights, if asked for."""
    asked = options.architecture == "weights"
    if not asked and (config.vision or options.initial_weights is None):
        return config
    if options.initial_weights is None:
        raise ValueError("--architecture weights needs --initial-weights.")
    return with_architecture(config, options.initial_weights)


def flag_settings(options: argparse.Namespace) -> list[str]:
    """Returns the flags that stand for settings as `name=value`."""
    given = {name: getattr(options, name) for name in (*OVERRIDES, *ELSEWHERE)}
    return [f"{name}={value}" for name, value in given.items() if value is not None]


def with_samples(config: Config, options: argparse.Namespace) -> Config:
    """Returns a configuration whose stages share so many samples.

    Raises:
        ValueError: if a run is to be extended and there is none, or it isn't said by
            how much.
    """
    if options.extend and None in (options.samples, options.output):
        raise ValueError(
            "--extend needs --output, the run that goes on, and --samples, the pairs "
            "that it shall have in all."
        )
    if options.samples is None:
        return config
    samples = parse_value(options.samples, int, "samples")
    if options.extend:
        stages = stages_of_run(options.output)
        if samples != sum(stage.samples for stage in stages):  # not extended before
            stages = extended(stages, samples)
        return dataclasses.replace(config, stages=tuple(stages))
    return dataclasses.replace(config, stages=tuple(rescaled(config.stages, samples)))


def stages_of_run(output: Path) -> list[ResolutionStage]:
    """Returns the stages that a run was planned with.

    Raises:
        FileNotFoundError: if there is no run.
    """
    path = output / "config.json"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: {output} holds no run to extend."
        )
    settings = json.loads(path.read_text())
    settings = settings.get("student", settings)  # of a distillation
    return [ResolutionStage(**stage) for stage in settings["stages"]]


# === Start ===
# What of a run that has begun is the user's to mend; all of them say how.
OF_A_RUN = (
    CheckpointError,  # wrong initial weights
    RunMismatch,
    NonFiniteError,
    SampleError,
    TarShardError,
    TooManySkipped,
    ArrayRecordError,
    LoaderStalled,
    OSError,  # a full disk, a share that went away
)
AFTER_STOP = ": the same command with --resume goes on from the newest checkpoint"


@contextlib.contextmanager
def said_plainly(
    kinds: tuple[type[Exception], ...] = (ValueError, OSError),
    after_stop: str = "",
) -> Iterator[None]:
    """Ends the program with a message alone after Ctrl-C or a mistake of the user's.

    Args:
        kinds: errors that are the user's to mend.
        after_stop: what can be done after Ctrl-C.

    Raises:
        SystemExit: with the code 2, which a wrong command line has, or 130 after
            Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        print(f"\nstopped{after_stop}", file=sys.stderr)
        raise SystemExit(130) from stop
    except kinds as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from error


def check_all(*checks: Callable[[], Any]) -> None:
    """Makes all checks, so that one mistake does not hide another.

    Raises:
        ValueError: with what each of them said, a line each.
    """
    found = []
    for check in checks:
        try:
            check()
        except (ValueError, OSError) as error:
            found.append(str(error))
    if found:
        raise ValueError("\nerror: ".join(found))


def check_run(config: Config) -> None:
    """Refuses settings or towers that can't be.

    Raises:
        ValueError: saying what is wrong.
    """
    check_config(config)
    check_towers(config)


def check_paths(options: argparse.Namespace, dataset: str) -> None:
    """Refuses data that are not there and an output that holds another run.

    Args:
        options: the parsed command line.
        dataset: "emoji" or "shards".

    Raises:
        ValueError: if data or output are not given, or a run would be overwritten.
        FileNotFoundError: naming the path.
    """
    if options.data is None or options.output is None:
        raise ValueError("Training needs --data and --output.")
    if dataset == "emoji" and not any(Path(options.data).glob("train-*.tar")):
        raise FileNotFoundError(
            f"--data {options.data}: no emoji data (train-*.tar) are there. Make them "
            f"with python -m recipes.emoji_data.prepare --output {options.data}."
        )
    if dataset == "shards":
        for flag in ("data", "validation-data"):
            given = getattr(options, flag.replace("-", "_"))
            paths = [] if given is None else expand_paths(given)
            missing = [p for p in paths if "://" not in p and not isfile(p)]
            if missing:
                raise FileNotFoundError(f"--{flag} {given}: there is no {missing[0]}.")
    if options.output.exists() and not options.output.is_dir():
        raise ValueError(f"--output {options.output}: this is a file, not a folder.")
    if not options.resume and any((options.output / "checkpoints").glob("step_*")):
        raise ValueError(
            f"--output {options.output} already holds a run. Resume it (--resume), or "
            f"give another folder."
        )


def print_settings(config: Any) -> None:
    """Prints every setting as it is written after `--set`."""
    for name, value in setting_values(config).items():
        print(f"{name}={value}")


def start_run(options: argparse.Namespace, config: Config) -> dict[str, Any]:
    """Starts the devices, checks the configuration, looks at the data's validation.

    Args:
        options: the parsed command line.
        config: the run.

    Returns:
        Arguments of a recipe's `train`, by name.

    Raises:
        ValueError: if data, output or configuration can't be, with all that is wrong.
        DataValidationError: if the shards did not pass their validation.
    """
    start_devices(options)
    check_all(
        lambda: check_paths(options, config.dataset),
        lambda: check_run(config),
    )
    if config.dataset == "shards":
        allowed = options.allow_anomalies
        # Without names: all of them.
        check_validation(
            options.data, options.data_validation, allowed or allowed is not None
        )
        open_shards(options.data)  # says at once what is wrong with them
    return {
        "data": options.data,
        "output": options.output,
        "resume": options.resume,
        "extend": options.extend,
        "validation_data": options.validation_data,
        "leave_out": tuple(options.leave_out),
        "initial_weights": options.initial_weights,
        "workers": options.workers,
        "start_timeout": options.start_timeout,
        "save_every": options.save_every,
        "evaluate_every": options.evaluate_every,
        "progress": not options.quiet,
    }
