"""Writes one of each thing that the library stores, for later versions to read.

Run:      python -m tests.formats.write v0.zip
Expect:   a preset, a run stopped halfway, shards with their indexes, an image index,
          and what the model of the preset gives; about 60 KB.

A new file is added when a format changes; those that are there stay as they are.
`8ccd54a.zip` was written by a script with the same settings at that commit, before
presets had vectors of classes and indexes of images their present form.
"""

import argparse
import os
import shutil
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image

from keras_pe import PECore, PEImageConverter
from keras_pe.search import ImageIndex
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig, build_tokenizer
from keras_pe.training.run.shard_data import ShardData
from keras_pe.training.run.train import RunOptions
from recipes import pretrain
from tests.data.shards import write_shards

TOWER = {"num_layers": 1, "intermediate_dim": 16, "output_dim": 8}
CONFIG = RunConfig(
    vision={
        "image_size": 16,
        "patch_size": 8,
        "hidden_dim": 8,
        "num_heads": 2,
        "pooling_heads": 2,
        **TOWER,
    },
    text={
        "vocabulary_size": 520,
        "context_length": 8,
        "hidden_dim": 4,
        "num_heads": 1,
        **TOWER,
    },
    stages=(ResolutionStage(16, 16), ResolutionStage(24, 8)),
    batch_size=4,
    optimizer="adamw",
    learning_rate=1e-2,
    warmup_steps=2,
    mask_every=2,
    mask_weight=0.5,
    seed=3,
)
TEXTS = ("a cat", "picture number 3")
METADATA = {"zero_shot": {"class_names": list(TEXTS), "templates": ["a {}"]}}


def inputs() -> np.ndarray:
    """Returns two images, float32 (2, 16, 16, 3)."""
    return np.linspace(-1, 1, 2 * 16 * 16 * 3, dtype="float32").reshape(2, 16, 16, 3)


def write_images(folder: Path) -> None:
    """Writes three images, of fixed times as an index notes them."""
    folder.mkdir()
    for number in range(3):
        y, x = np.mgrid[:20, :20]
        planes = np.stack([x * 7 + 90 * number, y * 9, x + y * number * 5], -1)
        path = folder / f"{number}.png"
        Image.fromarray((planes % 256).astype("uint8")).save(path)
        os.utime(path, (1_700_000_000, 1_700_000_000))


def train(folder: Path, resume: bool = False) -> PECore:
    """Trains in `folder/run` on `folder/shards`."""
    options = RunOptions(
        folder / "run", resume, save_every=3, evaluate_every=100, progress=False
    )
    data = ShardData(str(folder / "shards" / "shard-{000..001}.tar"))
    return pretrain.pretrain(CONFIG, data, options)


def write(folder: Path) -> None:
    """Writes everything."""
    (folder / "shards").mkdir()
    write_shards(folder / "shards", (5, 4))
    model = train(folder)
    tokenizer = build_tokenizer(CONFIG)
    converter = PEImageConverter(
        16, resize_mode="center_crop", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)
    )
    model.save_to_preset(
        folder / "preset",
        tokenizer=tokenizer,
        image_converter=converter,
        metadata=METADATA,
    )
    write_images(folder / "images")
    ImageIndex.build(model, folder / "images", folder / "index", converter)
    np.savez(
        folder / "outputs.npz",
        images=model.encode_image(inputs()),
        texts=model.encode_text(tokenizer(list(TEXTS))),
        ids=tokenizer(list(TEXTS)),
        classes=model.encode_text(tokenizer([f"a {text}" for text in TEXTS])),
    )
    cut_short(folder / "run")
    shutil.rmtree(folder / "images")


def cut_short(run: Path) -> None:
    """Leaves of a run what a kill between the steps 3 and 6 leaves."""
    shutil.rmtree(run / "checkpoints" / "step_000000006")
    for name in ("tensorboard", "preset"):
        shutil.rmtree(run / name, ignore_errors=True)
    for name in ("curves.png", "model.weights.h5"):
        (run / name).unlink(missing_ok=True)
    lines = (run / "steps.csv").read_text().splitlines()
    (run / "steps.csv").write_text("\n".join(lines[:4]) + "\n")


def main() -> None:
    """Writes a zip."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("output", type=Path, help="the zip, which must not be there")
    output = parser.parse_args().output
    with TemporaryDirectory() as folder:
        write(Path(folder))
        with zipfile.ZipFile(output, "x", zipfile.ZIP_DEFLATED, True, 9) as file:
            for path in sorted(Path(folder).rglob("*")):
                file.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main()
