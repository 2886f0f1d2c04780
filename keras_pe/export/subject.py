"""What is exported: a model with what prepares its inputs, and real inputs for it."""

import os
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from keras_pe.evaluation.datasets.folders import read_image_folder
from keras_pe.export.comparison import BATCHES, Encode
from keras_pe.layers.fine_tuning import STATE_KEYS, adaptations
from keras_pe.models.core import PECore
from keras_pe.models.embedding import class_vectors
from keras_pe.models.tower import Tower
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.media_folders import IMAGE_SUFFIXES
from keras_pe.preprocessing.prompts import fill, known_classes, prompt_templates
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.presets.checksums import read_metadata
from keras_pe.presets.hub import resolve
from keras_pe.presets.report import CheckpointError

MOST_TEXTS = 64  # that a text tower is compared and calibrated on
MOST_IMAGES = 2048  # that are held in memory and scored


class Subject(NamedTuple):
    """What is exported.

    Attributes:
        name: of the preset, or of the model.
        model: a `PECore` or a vision encoder, float32 and without LoRA.
        image_converter: of the size that the file will read.
        tokenizer: None where there is no text tower.
        templates: prompts of the zero-shot score.
        known: class names that the preset brings.
    """

    name: str
    model: Any
    image_converter: PEImageConverter
    tokenizer: PETokenizer | None
    templates: tuple[str, ...]
    known: tuple[str, ...]

    def tower(self, which: str) -> Tower:
        """Returns the "image" or "text" tower.

        Raises:
            ValueError: if the model has none.
        """
        if which == "image":
            return getattr(self.model, "vision_encoder", self.model)
        if not isinstance(self.model, PECore) or self.tokenizer is None:
            raise ValueError(
                f"{self.name} has no text tower, got tower={which!r}. Export "
                f'tower="image", or a PECore with its tokenizer.'
            )
        return self.model.text_encoder


class Inputs(NamedTuple):
    """Real inputs.

    Attributes:
        images: as the model reads them.
        names: of their classes; empty where they have none.
        labels: the class of each.
    """

    images: np.ndarray
    names: tuple[str, ...]
    labels: tuple[int, ...]


def load_subject(
    model: Any,
    image_size: int | None,
    image_converter: PEImageConverter | None,
    tokenizer: PETokenizer | None,
) -> Subject:
    """Loads a preset, or takes a model, and brings it to what is exported."""
    known: tuple[str, ...] = ()
    templates = prompt_templates("general")
    if isinstance(model, str | os.PathLike):
        name = os.fspath(model)
        model, converter, tokenizer, metadata = _from_preset(name)
        image_converter = image_converter or converter
        classes = known_classes(metadata, name)
        if classes is not None:
            known, templates = tuple(classes[0]), tuple(classes[1])
    else:
        tower = getattr(model, "vision_encoder", model)
        if not isinstance(tower, PEVisionEncoder):
            raise TypeError(
                f"Expected a preset, a PECore or a vision encoder, got {type(model)}."
            )
        name = model.name
        image_converter = image_converter or PEImageConverter(tower.image_size)
    plain = _plain(model)
    tower = getattr(plain, "vision_encoder", plain)
    if image_size is not None:
        config = {**image_converter.get_config(), "image_size": image_size}
        image_converter = type(image_converter)(**config)
    tower.grid((None, *image_converter.image_size, 3))  # in whole patches, or raises
    return Subject(name, plain, image_converter, tokenizer, templates, known)


def _from_preset(
    preset: str,
) -> tuple[Any, PEImageConverter, PETokenizer | None, Mapping[str, Any]]:
    model: Any
    tokenizer = None
    try:
        model = PECore.from_preset(preset, dtype="float32")
        tokenizer = PETokenizer.from_preset(preset)
    except CheckpointError:  # no dual encoder, or nothing at all: the next line says
        model = PEVisionEncoder.from_preset(preset, dtype="float32")
    converter = PEImageConverter.from_preset(preset)
    directory = resolve(preset, need="config").directory
    return model, converter, tokenizer, read_metadata(directory) if directory else {}


def _plain(model: Any) -> Any:
    """Returns a model in float32 and without LoRA; itself if it is such a one."""
    towers = model.towers()
    for tower in towers.values():
        if any("quantization" in entry for entry in adaptations(tower).values()):
            raise ValueError(
                f"{tower.name} is quantised by Keras, whose rounding no other runtime "
                f'repeats. Export the model as it was before, with quantize="int8".'
            )
    if all(t.compute_dtype == "float32" and not t.has_lora for t in towers.values()):
        return model
    plain = {part: _in_float32(tower) for part, tower in towers.items()}
    if not isinstance(model, PECore):
        return plain[""]
    limit = model.max_logit_scale
    copy = PECore(plain["vision"], plain["text"], max_logit_scale=limit)
    copy.logit_scale.assign(ops.convert_to_numpy(model.logit_scale))
    return copy


def _in_float32(tower: Tower) -> Tower:
    tower = tower.merge_lora() if tower.has_lora else tower
    if tower.compute_dtype == "float32":
        return tower
    config = {k: v for k, v in tower.get_config().items() if k not in STATE_KEYS}
    copy: Tower = type(tower).from_config({**config, "dtype": "float32"})
    for mine, theirs in zip(copy.variables, tower.variables, strict=True):
        if "seed" not in mine.path:
            mine.assign(ops.cast(theirs, "float32"))
    return copy


# === Inputs ===
def read_inputs(subject: Subject, images: Any) -> Inputs:
    """Reads images: the bundled ones, a folder, folders of classes, or a list.

    Args:
        subject: whose converter prepares them.
        images: a folder, a sequence of paths, or None. Of more than 2,048 images
            every so manyth is read.
    """
    names: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()
    paths = list(demo_images())
    if isinstance(images, str | os.PathLike) and not os.path.isdir(images):
        raise FileNotFoundError(
            f"{images} is no folder. Give a folder of images, or a list of files."
        )
    if images is None:
        names = tuple(path.stem for path in paths)
        labels = tuple(range(len(paths)))
    elif isinstance(images, str | os.PathLike) and _has_folders(Path(images)):
        found = read_image_folder(images)
        paths, names, labels = list(found.samples), found.class_names, found.labels
    elif isinstance(images, str | os.PathLike):
        paths = sorted(path for path in Path(images).iterdir() if _is_image(path))
    else:
        paths = list(images)
    if not paths:
        raise ValueError(f"{images} holds no images. Give a folder with some, or none.")
    step = -(-len(paths) // MOST_IMAGES)  # of a large folder, evenly spread
    paths, labels = paths[::step], labels[::step]
    rows = subject.image_converter(paths)
    if len(rows) < max(BATCHES):  # a batch of seven needs as many
        rows = np.concatenate([rows, subject.image_converter(list(demo_images()))])
    return Inputs(rows, names, labels)


def demo_images() -> list[Path]:
    """Returns the drawings that ship with the package."""
    folder = Path(str(resources.files("keras_pe"))) / "cli" / "demo_images"
    return sorted(folder.glob("*.png"))


def _has_folders(folder: Path) -> bool:
    return any(path.is_dir() for path in folder.iterdir())


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_SUFFIXES


def token_ids(subject: Subject, inputs: Inputs) -> np.ndarray:
    """Returns texts for a text tower: names in prompts, then those the preset knows."""
    if subject.tokenizer is None:
        raise ValueError(f"{subject.name} has no tokenizer.")
    names = [*inputs.names, *subject.known, *(path.stem for path in demo_images())]
    names = list(dict.fromkeys(names))[:MOST_TEXTS]
    templates = subject.templates
    prompts = [
        fill(templates[n % len(templates)], name) for n, name in enumerate(names)
    ]
    return subject.tokenizer(prompts)


def encoder_of(tower: Tower) -> Encode:
    """Returns the tower as a function of NumPy arrays, compiled."""

    def encode(batch: np.ndarray) -> np.ndarray:
        return np.asarray(ops.convert_to_numpy(tower.encode(batch)))

    return encode


class Vectors:
    """A model in the place of a `PECore`, made of functions, for `class_vectors`."""

    def __init__(self, subject: Subject, encode_text: Encode) -> None:
        self.name = subject.name
        self.text_encoder = subject.model.text_encoder
        self.vision_encoder = subject.model.vision_encoder
        self.output_dim = subject.model.output_dim
        self._encode = encode_text

    def encode_image(self, images: Any) -> Any:
        """Is not asked for."""
        raise NotImplementedError

    def encode_text(self, ids: Any) -> np.ndarray:
        """Returns unit vectors of token ids."""
        vectors = self._encode(np.asarray(ops.convert_to_numpy(ids)))
        return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def text_vectors(
    subject: Subject, names: Sequence[str], encode_text: Encode
) -> np.ndarray:
    """Returns the vectors of classes, `(classes, channels)`, by a file or the model."""
    assert subject.tokenizer is not None
    # A copy: the user's own goes on telling of texts that are cut.
    config = {**subject.tokenizer.get_config(), "on_truncation": "ignore"}
    vectors, _ = class_vectors(
        Vectors(subject, encode_text),
        PETokenizer.from_config(config),
        names,
        subject.templates,
    )
    return vectors
