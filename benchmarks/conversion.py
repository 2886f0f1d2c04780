"""What other patch sizes, windows and positions cost before anything is trained.

Run:      KERAS_BACKEND=torch python -m benchmarks.conversion
Expect:   the two tables of docs/detection.md and results/conversion.json; a minute.

The bundled preset is compared with itself, converted, on 16 images of 512 px that
`recipes.detection.scenes` draws: mean cosine of tokens and of the embedding, by
`conversion_receipt`, which resizes images to what each side reads.
"""

import datetime
import json
from pathlib import Path
from typing import Any

import keras_pe

# isort: split
from keras import ops

from keras_pe.models.conversion_receipt import conversion_receipt
from recipes.detection.scenes import scenes

PRESET, COUNT, SIDE = "pe_core_emoji_patch8_64", 16, 512
LARGE = 128  # twice what the preset reads
HYBRID = {"window_size": 8, "global_blocks": (3, 6)}
LAYOUTS: dict[str, dict[str, Any]] = {
    "full attention, whole steps": {},
    "full attention, rope_reference_grid=8": {"rope_reference_grid": 8},
    "windows of 8, blocks 3 and 6 global, whole steps": HYBRID,
    "windows of 8, blocks 3 and 6 global, rope_reference_grid=8": {
        **HYBRID,
        "rope_reference_grid": 8,
    },
    "the same, tiled positions": {
        **HYBRID,
        "rope_reference_grid": 8,
        "tiled_positions": True,
    },
    "windows of 8 alone, tiled positions": {"window_size": 8, "tiled_positions": True},
}


def cosines(original: Any, images: Any, size: int | None, **options: Any) -> Any:
    """Returns the rounded cosines of a conversion: layer 0, the last, the embedding."""
    receipt = conversion_receipt(
        original, original.convert(**options), images, image_size=size
    )
    found = [*receipt.layers.values(), receipt.pooled]
    return [round(float(value or 0.0), 4) for value in found]


def main() -> None:
    """Measures, prints and writes."""
    original = keras_pe.PEVisionEncoder.from_preset(PRESET)
    detailed, _ = scenes(COUNT, side=SIDE)
    size = original.image_size
    small = ops.image.resize(detailed, (size, size), antialias=True)
    kinds = {"with detail": detailed, "enlarged": ops.convert_to_numpy(small)}
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "images": f"{COUNT} of recipes.detection.scenes, {SIDE} px, seed 0",
        f"at {LARGE} px: layer 0, last layer, embedding": {},
        "patches: layer 0, last layer, embedding": {},
    }
    _, _, layouts, patches = result.values()
    for name, options in LAYOUTS.items():
        layouts[name] = cosines(original, detailed, LARGE, **options)
        print(f"{name}: {layouts[name]}", flush=True)
    for kind, images in kinds.items():
        for patch in (9, 16):
            for method in ("bilinear", "pseudo_inverse"):
                name = f"{kind}, {patch}, {method}"
                patches[name] = cosines(
                    original, images, None, patch_size=patch, kernel_resize=method
                )
                print(f"{name}: {patches[name]}", flush=True)
    output = Path(__file__).parent / "results" / "conversion.json"
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
