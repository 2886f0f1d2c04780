"""The command-line options that all training recipes share."""

import argparse
import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

from keras_pe.training.devices.setup import add_device_arguments
from keras_pe.training.resolution import ResolutionStage, extended, rescaled
from keras_pe.training.run.config import DistillConfig, RunConfig
from keras_pe.training.run.initial_weights import with_architecture
from keras_pe.training.run.language_config import SMALL, LanguageConfig
from keras_pe.training.run.overrides import parse_value, setting_values, with_settings
from keras_pe.training.run.shard_data import START_TIMEOUT
from keras_pe.training.run.spatial_config import SpatialConfig
from keras_pe.training.run.training_config import TrainingConfig

Config = TypeVar("Config", bound=TrainingConfig)
PairConfig = TypeVar("PairConfig", bound=RunConfig)


def recipe_parser(
    name: str,
    description: str | None,
    configs: Iterable[str],
    usage: str = "--data DATA --output FOLDER",
) -> argparse.ArgumentParser:
    """Returns a parser for the command line of a recipe, with its `--config`.

    Args:
        name: of its module.
        description: its docstring.
        configs: names of its configurations, the default first.
        usage: the options that it is mostly called with.
    """
    parser = argparse.ArgumentParser(
        prog=f"python -m {name}",
        usage=f"%(prog)s --config NAME {usage} [options]",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    names = list(configs)
    parser.add_argument(
        "--config",
        choices=names,
        default=names[0],
        metavar="NAME",
        help=f"one of {', '.join(names)} (default {names[0]})",
    )
    return parser


def add_shard_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says where shards are, and how they are read."""
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data",
        help="shards: a folder, a pattern ('data/{000..099}.tar', 'data/*.tar') or a "
        "URL that fsspec opens",
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


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds a run's results and devices, and changes of its configuration."""
    _add_run(parser)
    add_device_arguments(parser)
    _add_overrides(parser)


def add_weights_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a run of a dual encoder starts from."""
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


def _add_run(parser: argparse.ArgumentParser) -> None:
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


# === Changes of a configuration ===
# Those with a flag of their own; `--set` reaches all.
OVERRIDES = {
    "batch_size": "pairs of a step, over all devices; 2 or more",
    "learning_rate": "its peak",
    "warmup_steps": "steps until the peak",
    "seed": "of weights, data order, augmentation and masks",
    "image_chunk_size": "images that go through the tower at once: less memory",
    "text_chunk_size": "texts that do",
    "loss_chunk_size": "rows of the loss matrix held at once",
    "precision": "Keras dtype policy, such as mixed_bfloat16",
}
# Flags that `add_run_arguments` has in other groups.
ELSEWHERE = ("caption_key", "max_bad_share", "freeze")


def _add_overrides(parser: argparse.ArgumentParser) -> None:
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


def with_overrides(config: PairConfig, options: argparse.Namespace) -> PairConfig:
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


def aligned_settings(
    config: SpatialConfig, options: argparse.Namespace
) -> SpatialConfig:
    """Returns a configuration of an alignment with what the command line changes."""
    flags = {name: getattr(options, name) for name in ("encoder", "teacher")}
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    settings = [*flag_settings(options), *given, *options.settings]
    changed: SpatialConfig = with_settings(config, settings)
    return with_samples(changed, options)


def language_settings(
    config: LanguageConfig, options: argparse.Namespace
) -> LanguageConfig:
    """Returns a configuration of language alignment with what the command line changes.

    `--phase warmup` freezes encoder and decoder, `align` trains all three.
    """
    names = ("encoder", "decoder", "start")
    flags = {name: getattr(options, name, None) for name in names}
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    phase = getattr(options, "phase", None)
    if phase is not None:
        trained = str(phase == "align").lower()
        given += [f"train_encoder={trained}"]
        # A decoder that is drawn anew has nothing to keep.
        decoder = flags["decoder"] or config.decoder
        has_decoder = flags["start"] or config.start or decoder != SMALL
        given += [f"train_decoder={trained if has_decoder else 'true'}"]
    settings = [*flag_settings(options), *given, *options.settings]
    changed: LanguageConfig = with_settings(config, settings)
    return with_samples(changed, options)


def with_weights_architecture(
    config: PairConfig, options: argparse.Namespace
) -> PairConfig:
    """Returns a configuration with the towers of the initial weights, if asked for."""
    asked = options.architecture == "weights"
    if not asked and (config.vision or options.initial_weights is None):
        return config
    if options.initial_weights is None:
        raise ValueError("--architecture weights needs --initial-weights.")
    return with_architecture(config, options.initial_weights)


def flag_settings(options: argparse.Namespace) -> list[str]:
    """Returns the flags that stand for settings as `name=value`."""
    names = (*OVERRIDES, *ELSEWHERE)
    given = {name: getattr(options, name, None) for name in names}
    return [f"{name}={value}" for name, value in given.items() if value is not None]


def distill_settings(
    config: DistillConfig, options: argparse.Namespace
) -> DistillConfig:
    """Returns a configuration with what the command line changes.

    The student's settings need no prefix: `batch_size` is `student.batch_size`.
    """
    student = with_weights_architecture(config.student, options)
    own = {field.name for field in dataclasses.fields(config)}
    flags = [] if options.teacher is None else [f"teacher={options.teacher}"]
    settings = [
        setting
        if setting.partition("=")[0].partition(".")[0].strip() in own
        else f"student.{setting}"
        for setting in (*flag_settings(options), *flags, *options.settings)
    ]
    config = with_settings(dataclasses.replace(config, student=student), settings)
    return dataclasses.replace(config, student=with_samples(config.student, options))


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


def print_settings(config: Any) -> None:
    """Prints every setting as it is written after `--set`."""
    for name, value in setting_values(config).items():
        print(f"{name}={value}")
