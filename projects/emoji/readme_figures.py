"""Makes the figures of the README again, all of them.

Run:      python -m projects.emoji.readme_figures --output docs/images
Expect:   demo.png (what `keras-pe demo` draws), pca.png, attention.png, text.png,
          similarity.png and layers.png; under a minute.

The drawings are those of the package's demo, by a vendor that the bundled model has
never seen; the curves come from `projects/emoji/probing/results`.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe import PEImageConverter
from keras_pe.cli.common import BUNDLED_PRESET, load
from keras_pe.cli.demo import IMAGES
from keras_pe.cli.main import main as keras_pe_command
from keras_pe.models.embedding import embed_texts
from keras_pe.visualization import (
    attention_figure,
    pca_figure,
    pca_map,
    pooling_attention,
    similarity_figure,
    similarity_map,
    text_score_maps,
)
from keras_pe.visualization.panels import Panel, displayable, draw_panels
from projects.emoji.probing.experiments import TITLES, draw

SIDE = 64
# Two drawings a scene, in the order of the alphabet: none was chosen for its looks.
SCENES = (
    ("bicycle", "cactus"),
    ("guitar", "octopus"),
    ("owl", "pizza"),
    ("rocket", "snowman"),
)
RESULTS = Path(__file__).parent / "probing" / "results"


def scene(names: tuple[str, ...]) -> Image.Image:
    """Returns drawings side by side on one white canvas."""
    canvas = Image.new("RGB", (SIDE * len(names), SIDE), "white")
    for place, name in enumerate(names):
        with Image.open(IMAGES / f"{name}.png") as file:
            drawing = file.convert("RGBA").resize((SIDE - 8, SIDE - 8))
        canvas.paste(drawing, (SIDE * place + 4, 4), drawing)
    return canvas


def visualizations(output: Path) -> None:
    """Draws what the bundled model sees in the scenes."""
    loaded = load(BUNDLED_PRESET)
    encoder = loaded.model.vision_encoder
    images = PEImageConverter((SIDE, 2 * SIDE))([scene(names) for names in SCENES])
    features = encoder.features(images, layers=4)
    pca_figure(images, pca_map(features), path=output / "pca.png")
    attention_figure(
        images[:1],
        pooling_attention(encoder, images[:1]).patches,
        path=output / "attention.png",
    )
    point = (2, 4)  # the owl's face
    similarity_figure(
        images,
        similarity_map(features, *point, image=2),
        point,
        image=2,
        path=output / "similarity.png",
    )
    names = [name for names in SCENES for name in names]
    prompts = [f"an emoji of {name}" for name in names]
    vectors = embed_texts(loaded.model, loaded.tokenizer, prompts)
    maps = text_score_maps(loaded.model, images, vectors, contrast="mean")
    draw_panels(own_names(displayable(images), maps, names), 3, output / "text.png")


def own_names(images: np.ndarray, maps: np.ndarray, names: list[str]) -> list[Panel]:
    """Returns each scene and the maps of the two things in it.

    The lightest colour of a scene's maps is the highest score that any of the eight
    names has there.
    """
    panels = []
    for image, heats, own in zip(images, maps, SCENES, strict=True):
        panels.append(Panel(image))
        for name in own:
            heat = heats[names.index(name)]
            title = f"{name}, highest {heat.max():+.3f}"
            panels.append(Panel(image, heat, (0.0, float(heats.max())), title=title))
    return panels


def curves(output: Path) -> None:
    """Draws the layer curves of the probing experiments."""
    found = {
        path.stem: json.loads(path.read_text())
        for path in sorted(RESULTS.glob("*.json"))
        if path.stem in TITLES
    }
    draw(found, output / "layers.png")


def shrink(path: Path) -> None:
    """Writes an image again with 256 colours: a quarter of the bytes."""
    with Image.open(path) as file:
        small = file.convert("RGB").quantize(256)
    small.save(path, optimize=True)


def main() -> None:
    """Makes all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    keras_pe_command(["demo", "--output", str(options.output / "demo.png")])
    visualizations(options.output)
    curves(options.output)
    for name in ("pca", "attention", "text", "similarity", "layers"):
        shrink(options.output / f"{name}.png")


if __name__ == "__main__":
    main()
