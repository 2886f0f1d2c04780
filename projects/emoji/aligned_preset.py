"""What the presets of alignments have in common: their facts and their files."""

import argparse
import json
from pathlib import Path
from typing import Any

from keras_pe import PEImageConverter
from keras_pe.files import write_atomically
from projects.emoji.card_head import headed
from projects.emoji.preset import WHITE
from projects.emoji.rounding import round_weights


def read_options(description: str) -> argparse.Namespace:
    """Reads the command line: the run, the experiment's results, where it goes."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    return parser.parse_args()


def read_run(folder: Path) -> tuple[str, dict[str, Any]]:
    """Returns the name of a run's configuration and what its `config.json` says.

    Args:
        folder: of the run: the configuration and the seed, `masks-0`.
    """
    return folder.name.rsplit("-", 1)[0], json.loads(
        (folder / "config.json").read_text()
    )


def facts(name: str, model: Any, run: dict[str, Any], bits: int) -> dict[str, Any]:
    """Returns what every card says of the encoder and its training, by field.

    Args:
        name: of the preset.
        model: the aligned encoder.
        run: `config.json` of the run.
        bits: of a weight's fraction that are kept.
    """
    (stage,) = run["stages"]
    return {
        "name": name,
        "encoder": run["encoder"],
        "parameters": model.count_params(),
        "layers": model.num_layers,
        "width": model.hidden_dim,
        "heads": model.num_heads,
        "patch": model.patch_size,
        "steps": stage["samples"] // run["batch_size"],
        "batch": run["batch_size"],
        "size": stage["image_size"],
        "rate": run["learning_rate"],
        "seed": run["seed"],
        "bits": bits,
    }


def write_preset(
    model: Any,
    output: Path,
    description: str,
    scores: dict[str, Any],
    card: str,
    bits: int,
) -> None:
    """Writes an aligned encoder as float16, rounded, and its card beside it.

    Args:
        model: the aligned encoder; its weights are rounded in place.
        output: folder of the preset.
        description: a sentence for its metadata.
        scores: likewise, by task.
        card: the model card, Markdown.
        bits: of a weight's fraction that are kept, of float16's ten: the wheel has no
            room for all.
    """
    round_weights(model, bits)
    model.save_to_preset(
        output,
        image_converter=PEImageConverter(model.image_size, background=WHITE),
        dtype="float16",
        metadata={"description": description, "scores": scores},
    )
    write_atomically(output.with_suffix(".md"), headed(card))
    size = sum(path.stat().st_size for path in output.iterdir())
    print(f"{size / 2**20:.1f} MB: {output}")
