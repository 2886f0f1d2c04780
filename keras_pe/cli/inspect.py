"""Say what a checkpoint file holds and which model it would load into."""

import argparse
import dataclasses

from keras_pe.cli.common import add_json, text
from keras_pe.cli.output import print_json, printable

HELP = "say what a checkpoint file or a preset holds"
EPILOG = """examples:
  keras-pe inspect PE-Core-L14-336.pt
  keras-pe inspect pe_core_emoji_patch8_64 --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "checkpoint",
        type=text,
        help=".safetensors or .pt file, preset name, directory or hf://owner/repo",
    )
    add_json(parser, "all of it")


def run(options: argparse.Namespace) -> int:
    """Prints a table; returns the exit code."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from keras_pe.presets import inspect_checkpoint

    info = inspect_checkpoint(options.checkpoint)
    if options.json:
        print_json({**dataclasses.asdict(info), "path": str(info.path)}, indent=2)
        return 0
    table = Table(
        title=escape(printable(info.path.name)), show_header=False, title_justify="left"
    )
    kind = "dual encoder" if info.kind == "core" else "vision tower"
    table.add_row("written by", f"{info.family} ({kind})")
    table.add_row("architecture", info.architecture or "no released one")
    table.add_row("tensors", f"{info.num_tensors}, {', '.join(info.dtypes)}")
    table.add_row("parameters", f"{info.num_parameters:,}")
    table.add_row("vision", _summary(info.vision_config))
    if info.text_config is not None:
        table.add_row("text", _summary(info.text_config))
    if info.unknown_heads:
        table.add_row("note", "the number of heads is unknown: no tensor holds it")
    loads_into = "PECore" if info.kind == "core" else _vision_class(info.vision_config)
    table.add_row("loads into", f"keras_pe.{loads_into}")
    Console().print(table)
    return 0


def _vision_class(config: dict[str, object]) -> str:
    return "PEVisionEncoder" if config["pooling"] else "PELang or PESpatial"


def _summary(config: dict[str, object]) -> str:
    return ", ".join(f"{name}={_known(name, value)}" for name, value in config.items())


def _known(name: str, value: object) -> object:
    return "unknown" if value is None and name.endswith("heads") else value
