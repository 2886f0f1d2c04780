"""The runs that `kill_and_resume` kills: small ones of each recipe, and their data."""

import dataclasses
import io
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

TRAIN_DRAWINGS, VALIDATION_DRAWINGS = 160, 24


@dataclasses.dataclass(frozen=True)
class KilledRun:
    """A run that is killed.

    Attributes:
        config: makes its configuration, of so many steps.
        write: writes its data into a new folder; of a pretraining out of another one.
        train: is given configuration, data and options.
        terms: of the loss, in the logs.
    """

    config: Callable[[int], Any]
    write: Callable[[Path | None, Path], None]
    train: Callable[[Any, Path, Any], Any]
    terms: tuple[str, ...]


# === Pretraining ===
def small_config(steps: int) -> Any:
    """Returns the smoke configuration, thinner, with mask loss and two stages."""
    from keras_pe.training.run.config import small_towers
    from keras_pe.training.run.training_config import stages_of
    from projects.emoji.configs import CONFIGS

    return dataclasses.replace(
        CONFIGS["smoke"],
        **small_towers(32, width=32, layers=1, text_layers=1),
        stages=stages_of(32 * steps, (24, 32), (3, 2)),
        batch_size=32,
    )


def write_drawings(source: Path | None, target: Path) -> None:
    """Copies a few drawings, which load in no time."""
    from projects.emoji.data.shards import read_shards, shard_paths, write_shards

    if source is None:
        raise SystemExit("A pretraining needs --data: drawings.")
    for split, count in (
        ("train", TRAIN_DRAWINGS),
        ("val_seen", VALIDATION_DRAWINGS),
    ):
        samples = []
        for record, image in read_shards(shard_paths(source, split)):
            stream = io.BytesIO()
            image.save(stream, "WEBP", lossless=True)
            samples.append((record, stream.getvalue()))
            if len(samples) == count:
                break
        write_shards(target, split, samples)
    shutil.copy(source / "concepts.json", target)


def pretrain_drawings(config: Any, data: Path, options: Any) -> None:
    """Runs a pretraining."""
    from keras_pe.training.run.train import pretrain
    from projects.emoji.drawings_data import DrawingsData

    pretrain(config, DrawingsData(data), options)


# === Spatial alignment ===
def small_alignment(steps: int) -> Any:
    """Returns an alignment to both teachers, with stochastic depth and two stages."""
    from keras_pe.training.run.spatial_config import SpatialConfig
    from keras_pe.training.run.training_config import stages_of

    return SpatialConfig(
        encoder="pe_core_emoji_small_patch8_64",
        stages=stages_of(8 * steps, (32, 48), (3, 2)),
        batch_size=8,
        most_shapes=4,
        background_weight=0.5,
        drop_path=0.2,
    )


def write_masks(source: Path | None, target: Path) -> None:
    """Writes a shard of images of coloured rectangles, and their instance maps."""
    import numpy as np
    from PIL import Image

    rng = np.random.default_rng(0)
    target.mkdir()
    with tarfile.open(target / "masks.tar", "w") as archive:
        for number in range(TRAIN_DRAWINGS):
            numbers = np.zeros((56, 56), "uint8")
            for shape in range(1, 4):
                top, left = rng.integers(0, 40, 2)
                numbers[top : top + 16, left : left + 16] = shape
            colours = rng.integers(0, 256, (4, 3)).astype("uint8")
            for ending, array in (("png", colours[numbers]), ("seg.png", numbers)):
                stream = io.BytesIO()
                Image.fromarray(array).save(stream, "PNG")
                member = tarfile.TarInfo(f"{number:04d}.{ending}")
                member.size = stream.tell()
                stream.seek(0)
                archive.addfile(member, stream)


def align_masks(config: Any, data: Path, options: Any) -> None:
    """Runs a spatial alignment."""
    from keras_pe.training.run.align import align_spatial
    from keras_pe.training.run.image_data import ImageData

    align_spatial(config, ImageData(str(data)), options)


# === Language alignment ===
def small_language(steps: int) -> Any:
    """Returns a language alignment of all parts, with stochastic depth and chunks."""
    from keras_pe.training.run.language_config import LanguageConfig
    from keras_pe.training.run.training_config import stages_of

    return LanguageConfig(
        encoder="pe_core_emoji_small_patch8_64",
        stages=stages_of(8 * steps, (32,), (1,)),
        batch_size=8,
        learning_rate=1e-3,
        warmup_steps=2,
        encoder_rate=0.5,
        drop_path=0.2,
        pooling=2,
        spell_answers=True,
        decoder_dim=32,
        decoder_layers=2,
        row_length=64,
        image_chunk_size=2,
        questions=2,
        repeats=("squares-*:2",),
    )


def write_questions(source: Path | None, target: Path) -> None:
    """Writes a shard of coloured squares and what is asked of them."""
    import numpy as np
    from PIL import Image

    from keras_pe.data.questions import Question, question_member, write_question_shards

    colours = {"red": (255, 0, 0), "green": (0, 160, 0), "blue": (0, 0, 255)}

    def samples() -> Any:
        rng = np.random.default_rng(0)
        for number in range(TRAIN_DRAWINGS):
            name = sorted(colours)[number % 3]
            pixels = np.full((40, 40, 3), 255, "uint8")
            top, left = rng.integers(0, 24, 2)
            pixels[top : top + 16, left : left + 16] = colours[name]
            stream = io.BytesIO()
            Image.fromarray(pixels).save(stream, "PNG")
            place = "above" if top < 12 else "below"
            asked = [
                Question("Which colour has it?", name, "colour"),
                Question("Is it above or below the middle?", place, "position"),
                Question("Is it red?", "yes" if name == "red" else "no", "yesno"),
            ]
            yield {
                "__key__": f"{number:04d}",
                "png": stream.getvalue(),
                "json": question_member(asked),
            }

    write_question_shards(target, "squares", samples())


def align_questions(config: Any, data: Path, options: Any) -> None:
    """Runs a language alignment."""
    from keras_pe.training.run.align_language import align_language
    from keras_pe.training.run.question_data import QuestionData

    align_language(config, QuestionData(str(data / "*.tar")), options)


RUNS = {
    "pretrain": KilledRun(
        small_config, write_drawings, pretrain_drawings, ("mask_loss",)
    ),
    "alignment": KilledRun(
        small_alignment,
        write_masks,
        align_masks,
        ("feature_loss", "correspondence_loss"),
    ),
    "language": KilledRun(
        small_language, write_questions, align_questions, ("answer_accuracy",)
    ),
}
