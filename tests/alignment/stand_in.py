"""A small vision transformer of Keras layers alone, as another library's may be."""

import keras
import numpy as np
import pytest

SIDE, PATCH, CHANNELS, LAYERS = 16, 4, 12, 3


@keras.saving.register_keras_serializable("keras_pe_tests")
class Block(keras.Layer):
    """Attention and an MLP, each before its norm and added."""

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        self.channels = channels
        self.norms = [keras.layers.LayerNormalization() for _ in range(2)]
        self.attention = keras.layers.MultiHeadAttention(2, channels // 2)
        self.expand = keras.layers.Dense(2 * channels, "gelu")
        self.contract = keras.layers.Dense(channels)

    def build(self, shape):
        for norm in self.norms:
            norm.build(shape)
        self.attention.build(shape, shape)
        self.expand.build(shape)
        self.contract.build((*shape[:-1], 2 * self.channels))

    def call(self, x):
        y = self.norms[0](x)
        x = x + self.attention(y, y)
        return x + self.contract(self.expand(self.norms[1](x)))

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def encoder(prefix=1, seed=0):
    """Returns a functional encoder with random weights, a class token and a norm."""
    x = images = keras.Input((SIDE, SIDE, 3))
    x = keras.layers.Conv2D(CHANNELS, PATCH, PATCH, name="patches")(x)
    x = keras.layers.Reshape((-1, CHANNELS))(x)
    x = keras.layers.ZeroPadding1D((prefix, 0))(x)
    for number in range(1, LAYERS + 1):
        x = Block(CHANNELS, name=f"block_{number}")(x)
    model = keras.Model(images, keras.layers.LayerNormalization(name="final")(x))
    model.patch_size = PATCH
    return drawn(model, seed)


def drawn(model, seed=0):
    """Returns a model whose blocks all change something."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "int" not in weight.dtype:
            scale = weight.name in ("gamma", "lambda1")
            weight.assign(scale + rng.normal(0, 0.3, weight.shape))
    return model


TINY = {
    "patch_size": 8,
    "hidden_dim": 16,
    "num_layers": 3,
    "num_heads": 2,
    "intermediate_dim": 32,
    "image_shape": (32, 32, 3),
}


def kerashub(kind):
    """Returns a small encoder of KerasHub: "dinov2", "clip" or "siglip"."""
    hub = pytest.importorskip("keras_hub")
    if kind == "dinov2":
        return hub.models.DINOV2Backbone(
            **TINY, num_register_tokens=2, position_embedding_shape=(32, 32, 3)
        )
    if kind == "clip":
        return hub.models.CLIPVisionEncoder(**TINY)
    return hub.models.SigLIPVisionEncoder(**TINY)


def images(count=8, seed=0):
    """Returns noise as images."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (count, SIDE, SIDE, 3)).astype("float32")


def shapes(count=8, seed=1):
    """Returns masks: whole patches of three things, and of nothing."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(0, 4, (count, SIDE // PATCH, SIDE // PATCH))
    return grid.repeat(PATCH, axis=1).repeat(PATCH, axis=2).astype("uint8")
