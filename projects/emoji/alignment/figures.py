"""Draws what the alignment does to dense features, beside those of the core encoder.

Run:      python -m projects.emoji.alignment.figures --output docs/images
Expect:   spatial_pca.png, patches in three main colours, and spatial_points.png, where
          points of a drawing are found in another scene; under a minute.

The drawings are those of the package's demo, by a vendor that neither encoder has seen;
which of them meet in a scene, and where, comes from a seed that was not chosen.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from keras_pe import PESpatial, PEVisionEncoder
from keras_pe.cli.demo import IMAGES
from keras_pe.probing import Correspondence, PointPairs
from keras_pe.probing.correspondence import matching_points
from keras_pe.visualization import pca_map
from keras_pe.visualization.panels import Panel, displayable, draw_panels
from projects.emoji.probing.canvas import premultiplied
from projects.emoji.probing.point_pairs import compose_pair
from projects.emoji.probing.scene_images import Drawing, Picker, compose_scene
from projects.emoji.readme_figures import shrink

CORE, SPATIAL = "pe_core_emoji_patch8_64", "pe_spatial_emoji_patch8_64"
SIDE = 128
PAIRS = 3


def demo_picker() -> Picker:
    """Returns what picks drawings of the demo, a class each."""
    drawings = []
    for number, path in enumerate(sorted(IMAGES.glob("*.png"))):
        with Image.open(path) as file:
            image = file.convert("RGBA")
        box = image.getchannel("A").getbbox()
        record = {
            "label": path.stem,
            "caption": path.stem,
            "concept": path.stem,
            "family": path.stem,
            "hexcode": "",
            "vendor": "",
            "key": path.stem,
            "heldout": False,
        }
        drawings.append(Drawing(premultiplied(image.crop(box)), record, number))
    return Picker(drawings)


def layers_of(core: PEVisionEncoder, spatial: PEVisionEncoder) -> dict[str, Any]:
    """Returns what is compared: encoders and layers by their titles."""
    last = core.num_layers
    return {
        f"core, layer {last - 1}": (core, last - 1),
        f"core, layer {last}": (core, last),
        f"spatial, layer {last}": (spatial, last),
    }


def draw_pca(compared: dict[str, Any], path: Path) -> None:
    """Draws scenes of drawings, each beside its patches."""
    picker, rng = demo_picker(), np.random.default_rng(0)
    scenes = np.stack([compose_scene(picker, SIDE, (), rng).image for _ in range(4)])
    images = scenes.astype("float32") / 127.5 - 1.0
    maps = {
        title: pca_map(encoder.features(images, layers=layer))
        for title, (encoder, layer) in compared.items()
    }
    panels: list[Panel | None] = []
    for place, image in enumerate(displayable(images)):
        panels.append(Panel(image))
        panels += [Panel(heat=heat[place], title=title) for title, heat in maps.items()]
    draw_panels(panels, 1 + len(compared), path, interpolation="nearest")
    shrink(path)


def draw_points(compared: dict[str, Any], path: Path) -> None:
    """Draws pairs of scenes, and where each encoder finds the first one's points."""
    from matplotlib.figure import Figure

    picker, rng = demo_picker(), np.random.default_rng(0)
    pairs = [compose_pair(picker, SIDE, (), rng) for _ in range(PAIRS)]
    figure = Figure(figsize=(2.1 * (1 + len(compared)), 2.2 * PAIRS), dpi=120)
    axes = figure.subplots(PAIRS, 1 + len(compared), squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        first, second = displayable(pair.images)
        row[0].imshow(first)
        places = pair.points[:, 0]
        row[0].scatter(places[:, 1], places[:, 0], s=14, c="white", edgecolors="black")
        for panel, (title, (encoder, layer)) in zip(
            row[1:], compared.items(), strict=True
        ):
            found, right = answers(encoder, layer, pair)
            panel.imshow(second)
            for (y, x), (v, u), hit in zip(
                pair.points[:, 1], found, right, strict=True
            ):
                colour = "#1a9641" if hit else "#d7191c"
                panel.plot([x, u], [y, v], color=colour, linewidth=0.8)
                panel.plot(u, v, "o", markersize=4, color=colour, mec="white", mew=0.5)
            panel.set_title(f"{title}: {int(right.sum())} of {len(right)}", fontsize=8)
        for panel in row:
            panel.set_axis_off()
    figure.tight_layout(pad=0.4)
    figure.savefig(path)
    shrink(path)


def answers(
    encoder: PEVisionEncoder, layer: int, pair: PointPairs
) -> tuple[np.ndarray, np.ndarray]:
    """Returns where each point of the first image is found, and whether rightly."""
    first, second = np.asarray(encoder.features(pair.images, layers=layer).map())
    centres = matching_points(first, second, pair)
    return centres, Correspondence().found(centres, pair)


def main() -> None:
    """Draws both figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    parser.add_argument("--spatial", default=SPATIAL, help="preset or its directory")
    options = parser.parse_args()
    compared = layers_of(
        PEVisionEncoder.from_preset(CORE), PESpatial.from_preset(options.spatial)
    )
    draw_pca(compared, options.output / "spatial_pca.png")
    draw_points(compared, options.output / "spatial_points.png")


if __name__ == "__main__":
    main()
