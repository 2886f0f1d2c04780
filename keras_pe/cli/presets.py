"""List the presets that can be loaded by name."""

import argparse

from keras_pe.cli.common import add_json
from keras_pe.cli.output import print_json

HELP = "list the presets"
EPILOG = """examples:
  keras-pe presets
  keras-pe presets --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_json(parser, "all metadata")


def run(options: argparse.Namespace) -> int:
    """Prints a table; returns the exit code."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    from keras_pe.presets.table import PRESETS

    rows = {name: preset.metadata() for name, preset in PRESETS.items()}
    if options.json:
        print_json(rows, indent=2)
        return 0
    table = Table(box=box.SIMPLE, title="Presets", title_justify="left")
    for column in ("name", "official name", "class", "parameters", "image", "where"):
        table.add_column(
            column,
            justify="right" if column == "parameters" else "left",
            no_wrap=True,
        )
    for name, row in rows.items():
        table.add_row(
            name,
            row["official_name"] or "",
            row["class"],
            f"{row['parameters'] / 1e6:,.1f} M",
            f"{row['image_size']} px",
            "Hugging Face Hub" if PRESETS[name].sources else "in the package",
        )
    # Names are there to be copied: a narrow terminal breaks lines, nobody cuts them.
    width = Console().measure(table).maximum
    Console(width=max(width, 200)).print(table, soft_wrap=True)
    return 0
