"""A small model with all that prepares its inputs, and files of pictures."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe import PEImageConverter, PETokenizer
from keras_pe.models.preset_parts import PresetParts
from tests.small_models import core, perturb


def small_parts():
    """Returns a dual encoder of random weights that knows two names."""
    known = {"class_names": ["an owl", "a pizza"], "templates": ["{}"]}
    return PresetParts(
        perturb(core()),
        PETokenizer(context_length=8, vocabulary_size=600),
        PEImageConverter(32),
        {"zero_shot": known},
        None,
    )


def noise(path, height=40, width=40, seed=0):
    """Writes a picture of noise; returns its path."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return Path(path)


def zipped(path, contents):
    """Writes a zip of files by name; returns its path."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return Path(path)
