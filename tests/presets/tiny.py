"""Models and checkpoint files of a few thousand weights."""

import dataclasses
import io
import json

import keras
import numpy as np
from safetensors.numpy import save

import keras_pe
from keras_pe.presets import variants
from keras_pe.presets.formats import open_clip, timm, upstream

VISION = {
    "image_size": 32,
    "patch_size": 8,
    "hidden_dim": 32,
    "num_layers": 2,
    "num_heads": 4,
    "intermediate_dim": 64,
    "class_token": True,
}
TEXT = {
    "context_length": 8,
    "hidden_dim": 32,
    "num_layers": 1,
    "num_heads": 4,
    "intermediate_dim": 64,
    "output_dim": 16,
}
VOCABULARY_SIZE = 600


def core(**arguments):
    """Returns a dual encoder with weights that are all different from the start."""
    model = keras_pe.PECore(
        keras_pe.PEVisionEncoder(**VISION, output_dim=16, **arguments),
        keras_pe.PETextEncoder(vocabulary_size=VOCABULARY_SIZE, **TEXT, **arguments),
    )
    return scramble(model)


def scramble(model, seed=0):
    """Gives every weight of a model a random value."""
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0, 0.1, variable.shape).astype("float32"))
    return model


def lang(cls=keras_pe.PELang):
    """Returns a vision encoder of the Lang or Spatial family."""
    return scramble(cls(**VISION))


def tokenizer():
    return keras_pe.PETokenizer(8, VOCABULARY_SIZE)


def images(batch=2):
    return np.random.default_rng(1).uniform(-1, 1, (batch, 32, 32, 3)).astype("float32")


def values(model):
    """Returns copies of all weights of a model."""
    return [keras.ops.convert_to_numpy(v).copy() for v in model.weights]


def equal(first, second):
    """Whether two lists of weights are the same to the bit."""
    return len(first) == len(second) and all(
        np.array_equal(a, b) for a, b in zip(first, second, strict=True)
    )


def embed(model, x=None):
    """Returns what a model makes of the same two x."""
    x = images() if x is None else x
    if isinstance(model, keras_pe.PECore):
        return keras.ops.convert_to_numpy(model.encode_image(x))
    return keras.ops.convert_to_numpy(model.encode(x))


# === Checkpoints of the other projects ===
def shrink(monkeypatch, *names):
    """Gives released models a tiny architecture, so that tiny files are theirs."""
    monkeypatch.setattr(variants, "VOCABULARY_SIZE", VOCABULARY_SIZE)
    for name in names:
        size = dataclasses.replace(variants.VISION[name], **VISION)
        if size.output_dim is not None:
            size = dataclasses.replace(size, output_dim=16)
            text = dataclasses.replace(variants.TEXT[name], **TEXT)
            monkeypatch.setitem(variants.TEXT, name, text)
        monkeypatch.setitem(variants.VISION, name, size)


def tensors(rules, seed=0):
    """Returns random tensors of the names and shapes that rules expect."""
    random = np.random.default_rng(seed)
    return {
        rule.source: random.normal(0, 0.1, rule.shape).astype("float32")
        for rule in rules
    }


def foreign(name, family, seed=0):
    """Returns the tensors of a released model's checkpoint."""
    vision, text = variants.vision_config(name), variants.text_config(name)
    layout = {"upstream": upstream, "timm": timm, "open_clip": open_clip}[family]
    if text is None or family == "timm":
        return tensors(layout.vision_rules(vision), seed)
    return tensors(layout.core_rules(vision, text), seed)


def safetensors(found):
    return save(found)


def pickled(found):
    """Returns the bytes of a PyTorch state dict."""
    import torch

    buffer = io.BytesIO()
    torch.save({k: torch.from_numpy(np.array(v)) for k, v in found.items()}, buffer)
    return buffer.getvalue()


def timm_config(architecture):
    return json.dumps({"architecture": architecture}).encode()


def directory_files(directory):
    """Returns the files of a directory, content by name."""
    return {path.name: path.read_bytes() for path in directory.iterdir()}
