"""Makes small models of the peers on disk, with random weights, and small data.

Nothing can be asked of a hub where the comparison of `benchmarks.shortest_uses` runs:
what stands in its programs as a name there ("openai/clip-vit-base-patch32") is a folder
here. How much a user has to write does not depend on weights.
"""

import csv
import json
import random
import shutil
from importlib.resources import as_file, files
from pathlib import Path

from PIL import Image, ImageDraw


def write_data(folder: Path) -> None:
    """Writes `pictures`, `shapes` (a folder a class) and `pairs.csv`."""
    with as_file(files("keras_pe") / "cli" / "demo_images") as shown:
        shutil.copytree(shown, folder / "pictures")
    random.seed(0)
    for number in range(40):
        image = Image.new("RGB", (64, 64), "white")
        left, top, side = (random.randint(8, 28) for _ in range(3))
        kind = ("circle", "square")[number % 2]
        draw = ImageDraw.Draw(image)
        shape = draw.ellipse if kind == "circle" else draw.rectangle
        shape((left, top, left + side, top + side), fill="navy")
        (folder / "shapes" / kind).mkdir(parents=True, exist_ok=True)
        image.save(folder / "shapes" / kind / f"{number}.png")
    with (folder / "pairs.csv").open("w", newline="", encoding="utf-8") as stream:
        rows = csv.writer(stream)
        rows.writerow(["path", "caption"])
        for path in sorted((folder / "shapes").glob("*/*.png")):
            rows.writerow([str(path.relative_to(folder)), f"a {path.parent.name}"])


def write_clip(folder: Path) -> None:
    """Writes a CLIP of transformers, with a tokenizer that knows single bytes."""
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPProcessor,
        CLIPTokenizer,
    )

    folder.mkdir()
    signs = [chr(code) for code in range(33, 127)]
    words = [*signs, *(f"{sign}</w>" for sign in signs)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    small |= {"num_attention_heads": 2, "projection_dim": 32}
    text = {**small, "vocab_size": len(words), "max_position_embeddings": 77}
    ends = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    vision = {**small, "image_size": 64, "patch_size": 16}
    CLIPModel(
        CLIPConfig(text_config={**text, **ends}, vision_config=vision)
    ).save_pretrained(folder)
    size = {"height": 64, "width": 64}
    pictures = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=size)
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    CLIPProcessor(pictures, tokenizer).save_pretrained(folder)


def write_sentence_clip(folder: Path, clip: Path) -> None:
    """Writes the same as a model of sentence-transformers."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.models import CLIPModel

    SentenceTransformer(modules=[CLIPModel(str(clip))]).save(str(folder))


def write_vit(folder: Path) -> None:
    """Writes a ViT of KerasHub with what prepares its pictures."""
    from keras_hub import layers, models

    backbone = models.ViTBackbone(
        image_shape=(64, 64, 3),
        patch_size=16,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        mlp_dim=64,
    )
    pictures = layers.ViTImageConverter(image_size=(64, 64), scale=1 / 255)
    preprocessor = models.ViTImageClassifierPreprocessor(image_converter=pictures)
    models.ViTImageClassifier(
        backbone=backbone, num_classes=2, preprocessor=preprocessor
    ).save_to_preset(str(folder))


def main() -> None:
    """Writes all of it into the current folder."""
    here = Path.cwd()
    write_data(here)
    write_clip(here / "clip")
    write_sentence_clip(here / "sentence-clip", here / "clip")
    write_vit(here / "vit")


if __name__ == "__main__":
    main()
