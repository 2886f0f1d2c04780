"""List the presets that can be loaded by name."""

import argparse
import json

HELP = "list the presets"
EPILOG = """examples:
  keras-pe presets
  keras-pe presets --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument("--json", action="store_true", help="all metadata as JSON")


def run(options: argparse.Namespace) -> int:
    """Prints a table; returns the exit code."""
    from rich.console import Console
    from rich.table import Table

    from keras_pe.models.vision_encoder import PEVisionEncoder

    rows = PEVisionEncoder.presets
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    table = Table(title="Presets", title_justify="left")
    for column in ("name", "official name", "class", "parameters", "image", "where"):
        table.add_column(column, justify="right" if column == "parameters" else "left")
    for name, row in rows.items():
        table.add_row(
            name,
            row["official_name"] or "",
            row["class"],
            f"{row['parameters'] / 1e6:,.1f} M",
            f"{row['image_size']} px",
            "Hugging Face Hub" if row["sources"] else "in the package",
        )
    Console().print(table)
    return 0
