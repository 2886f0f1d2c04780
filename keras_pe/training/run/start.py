"""How a recipe starts and ends: checks before, and mistakes in one line."""

import argparse
import contextlib
import sys
from collections.abc import Callable, Iterator
from os.path import isfile
from typing import Any

from keras_pe.data import SampleError, TarShardError, TooManySkipped
from keras_pe.data.array_record_shards import ArrayRecordError
from keras_pe.data.loader import LoaderStalled
from keras_pe.data.shard_files import expand_paths
from keras_pe.data.tar_shards import open_shards
from keras_pe.files import check_directory_target
from keras_pe.presets import CheckpointError
from keras_pe.training import NonFiniteError
from keras_pe.training.devices.distribution import host_position
from keras_pe.training.devices.setup import start_devices
from keras_pe.training.run.config import RunConfig, check_config, check_towers
from keras_pe.training.run.options import print_settings
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.shard_data import ShardData, check_validation
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_run import RunMismatch

# What of a run that has begun is the user's to mend; all of them say how.
OF_A_RUN = (
    SettingError,  # that only the weights can tell
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


def check_run(config: RunConfig) -> None:
    """Refuses settings or towers that can't be.

    Raises:
        ValueError: saying what is wrong.
    """
    check_config(config)
    check_towers(config)


def check_output(options: argparse.Namespace) -> None:
    """Refuses an output that is no folder, can't be written or holds another run.

    Raises:
        ValueError: saying which.
        OSError: if it can't be written.
    """
    if isfile(options.output):
        raise ValueError(f"--output {options.output}: this is a file, not a folder.")
    if host_position()[0] == 0:  # the others write nothing
        check_directory_target(options.output / "checkpoints")
    if not options.resume and any((options.output / "checkpoints").glob("step_*")):
        raise ValueError(
            f"--output {options.output} already holds a run. Resume it (--resume), or "
            f"give another folder."
        )


def check_shards(options: argparse.Namespace) -> None:
    """Refuses shards that are not there.

    Raises:
        FileNotFoundError: naming the path.
    """
    for flag in ("data", "validation-data"):
        given = getattr(options, flag.replace("-", "_"))
        paths = [] if given is None else expand_paths(given)
        missing = [p for p in paths if "://" not in p and not isfile(p)]
        if missing:
            raise FileNotFoundError(f"--{flag} {given}: there is no {missing[0]}.")


def start_run(
    options: argparse.Namespace,
    config: Any,
    check_data: Callable[[argparse.Namespace], None] = check_shards,
    check: Callable[[Any], None] = check_run,
) -> RunOptions:
    """Starts the devices and checks the configuration, paths and data.

    Args:
        options: the parsed command line.
        config: the run.
        check_data: refuses data that are not there.
        check: refuses a configuration that can't run.

    Raises:
        ValueError: if data, output or configuration can't be, with all that is wrong.
    """
    start_devices(options)
    if options.data is None or options.output is None:
        check_all(_say_what_is_needed, lambda: check(config))
    check_all(
        lambda: check_data(options),
        lambda: check_output(options),
        lambda: check(config),
    )
    return RunOptions(
        output=options.output,
        resume=options.resume,
        extend=options.extend,
        initial_weights=getattr(options, "initial_weights", None),
        save_every=options.save_every,
        evaluate_every=options.evaluate_every,
        progress=not options.quiet,
    )


def _say_what_is_needed() -> None:
    raise ValueError("Training needs --data and --output.")


def shard_data(options: argparse.Namespace) -> ShardData:
    """Returns the shards of a command line, after a look at their validation.

    Raises:
        DataValidationError: if they did not pass it.
    """
    allowed = options.allow_anomalies
    # Without names: all of them.
    check_validation(
        options.data, options.data_validation, allowed or allowed is not None
    )
    open_shards(options.data)  # says at once what is wrong with them
    return ShardData(
        options.data, options.validation_data, options.workers, options.start_timeout
    )


def run_recipe(
    options: argparse.Namespace,
    configured: Callable[[], Any],
    train: Callable[[Any, Any, RunOptions], Any],
    check_data: Callable[[argparse.Namespace], None] = check_shards,
    make_data: Callable[[argparse.Namespace], Any] | None = None,
    check: Callable[[Any], None] = check_run,
) -> None:
    """Runs what a command line asks for, or prints its settings.

    Args:
        options: the parsed command line.
        configured: returns the configuration with what the command line changes: a
            `RunConfig`, or what holds one as its `student`.
        train: is given the configuration, the data and where the run goes.
        check_data: refuses data that are not there.
        make_data: returns the data; None for `shard_data`.
        check: refuses a configuration that can't run.
    """
    with said_plainly():
        config = configured()
        if options.list_settings:
            print_settings(config)
            return
        run = start_run(options, getattr(config, "student", config), check_data, check)
        data = (make_data or shard_data)(options)
    with said_plainly(OF_A_RUN, AFTER_STOP):
        train(config, data, run)
