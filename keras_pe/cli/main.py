"""The `keras-pe` command: parses, dispatches, turns errors and warnings into a line."""

import argparse
import contextlib
import os
import sys
import warnings
from collections.abc import Iterator, Sequence

from keras_pe.cli.output import discard_output, prepare_streams, printable

COMMANDS = (
    "demo",
    "classify",
    "ask",
    "embed",
    "index",
    "search",
    "probe",
    "evaluate",
    "video-card",
    "visualize",
    "export",
    "frontier",
    "presets",
    "inspect",
    "app",
)

EPILOG = """examples:
  keras-pe demo
  keras-pe classify cat.jpg --classes "a cat" "a dog"
  keras-pe index photos --output photos.index
  keras-pe search photos.index --text "a red car"

Each command has its own help: keras-pe COMMAND --help

exit codes: 0 all went well, 1 an error or nothing that could be used, 2 a wrong command
line, 3 some images were skipped, 130 stopped by Ctrl-C
"""


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands; needs neither Keras nor NumPy."""
    from importlib import import_module

    import keras_pe

    parser = argparse.ArgumentParser(
        prog="keras-pe",
        description="Perception Encoder from the command line.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version", action="version", version=f"keras-pe {keras_pe.__version__}"
    )
    parser.add_argument(
        "--debug", action="store_true", help="show the whole traceback of an error"
    )
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name in COMMANDS:
        command = import_module(f"keras_pe.cli.{name.replace('-', '_')}")
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=command.__doc__,
            epilog=command.EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return parser


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Shows warnings as errors are shown: in a line, without the code that gave them.

    Those for programmers (`DeprecationWarning`, say) keep their place.
    """
    before = warnings.formatwarning

    def in_a_line(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        line: str | None = None,
    ) -> str:
        if not issubclass(category, UserWarning):
            return before(message, category, filename, lineno, line)
        return f"keras-pe: warning: {printable(' '.join(str(message).split()))}\n"

    warnings.formatwarning = in_a_line
    try:
        yield
    finally:
        warnings.formatwarning = before


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Args:
        arguments: command line without the program's name; None takes the process's.

    Returns:
        0 if all went well, 1 for an error (one line on standard error) or if nothing
        could be used, 3 if some images were skipped, 130 after Ctrl-C. A wrong
        command line exits with 2.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    debug = False
    try:
        prepare_streams()
        try:
            options = build_parser().parse_args(arguments)
            debug = options.debug
            with contextlib.nullcontext() if debug else plain_warnings():
                return int(options.run(options))
        finally:
            sys.stdout.flush()  # here a full disk is an error with a message
    except KeyboardInterrupt:
        print("keras-pe: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `keras-pe presets | head`
        discard_output()
        return 0
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        if debug:
            raise
        line = " ".join(str(error).split()) or type(error).__name__
        print(f"keras-pe: {printable(line)}", file=sys.stderr)
        if sys.stdout is not None:
            discard_output()  # if it is standard output that is full
        return 1


if __name__ == "__main__":
    sys.exit(main())
