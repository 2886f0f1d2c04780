"""How much of a layer's tracking score is the rule of the tracker?

Run:      python -m projects.emoji.probing.tracking_rules --data data/emoji \\
              --probing data/probing --output runs/probing
Expect:   the table of four rules in this folder's README and `tracking_rules.json`;
          ten minutes.

The rule of DINO takes the first mask at the middle of each patch, and brings every
label's map to the range from 0 to 1 before the largest names the pixel. Each of the
two is also left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from keras_pe import PEVisionEncoder
from keras_pe.probing import Tracking
from projects.emoji.probing.experiments import Experiments, score_cells

RULES = {
    "nearest, 0 to 1 (DINO's)": Tracking(first_mask="nearest", normalize=True),
    "cover, 0 to 1": Tracking(first_mask="cover", normalize=True),
    "nearest, as they are": Tracking(first_mask="nearest", normalize=False),
    "cover, as they are": Tracking(first_mask="cover", normalize=False),
}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Returns the scores as Markdown, per cent; bold is the layer of validation."""
    layers = [str(row["layer"]) for row in next(iter(results.values()))["layers"]]
    lines = [
        f"| first mask, label maps | {' | '.join(layers)} | against the last |",
        "|---" * (len(layers) + 2) + "|",
    ]
    for rule, result in results.items():
        cells = score_cells(result)
        low, high = (100 * value for value in result["gain_over_last"])
        lines.append(f"| {rule} | {' | '.join(cells)} | {low:+.1f} to {high:+.1f} |")
    return "\n".join(lines)


def main() -> None:
    """Sweeps all layers by each rule, then prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--probing", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="pe_core_emoji_patch8_64")
    options = parser.parse_args()
    encoder = PEVisionEncoder.from_preset(options.preset)
    experiments = Experiments(encoder, options.data, options.probing)
    results = {rule: experiments.tracking(p).to_dict() for rule, p in RULES.items()}
    options.output.mkdir(parents=True, exist_ok=True)
    path = options.output / "tracking_rules.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
