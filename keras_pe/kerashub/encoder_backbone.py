"""What the backbones share: an encoder inside a functional model of KerasHub."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from keras_pe.models.convert import checked_core
from keras_pe.models.core import PECore
from keras_pe.models.vision_forward import VisionForward
from keras_pe.presets.hub import KerasHubPreset, resolve
from keras_pe.presets.report import CheckpointError

PACKAGE = "keras_pe.kerashub"  # under which Keras knows our classes
ImageShape = tuple[int, int, int]


class EncoderBackbone:
    """What is put before `keras_hub.models.Backbone` to be one around an encoder.

    KerasHub writes a backbone as its constructor's arguments and its weights. Here the
    encoder is such an argument, and says all else of itself: what is frozen in it,
    adapted by LoRA or quantised.
    """

    name: str
    trainable: bool
    encoder: VisionForward
    image_shape: ImageShape
    _flatten_layers: Callable[..., list[Any]]

    def _keep(self, encoder: VisionForward, image_shape: ImageShape) -> None:
        """Notes the parts, once the functional model is made."""
        self.encoder = encoder
        self.image_shape = image_shape
        self.patch_size = encoder.patch_size
        self.hidden_dim = encoder.hidden_dim
        self.num_layers = encoder.num_layers
        if encoder.has_lora:
            self._note_lora()

    # === LoRA ===
    def enable_lora(self, rank: int, target_layer_names: Any = None) -> None:
        """Adds low-rank updates to every block; nothing else of the encoder is trained.

        KerasHub's own looks for layers named "query" and "value". Ours have one matrix
        for both, and every matrix of a block is adapted.

        Args:
            rank: rank of the updates.
            target_layer_names: None; which layers are adapted is not open to choice.

        Raises:
            ValueError: if layers are named, the rank is no positive number, or there is
                LoRA already.
        """
        if target_layer_names is not None:
            raise ValueError(
                f"target_layer_names must be None, got {target_layer_names!r}: LoRA "
                f"adapts all matrices of all blocks of a Perception Encoder."
            )
        self.encoder.enable_lora(rank)
        self._note_lora()

    def _note_lora(self) -> None:
        """Tells KerasHub's `save_lora_weights` and `load_lora_weights` what they save.

        They number the layers that have weights.
        """
        layers = [x for x in self._flatten_layers(include_self=False) if x.weights]
        adapted = [
            (number, layer.lora_rank)
            for number, layer in enumerate(layers)
            if getattr(layer, "lora_enabled", False)
        ]
        self._lora_enabled_layers = [number for number, _ in adapted]
        self._lora_rank = adapted[0][1]

    # === Config ===
    def get_config(self) -> dict[str, Any]:
        # Whether all is trained says the encoder: `trainable=True` would thaw what
        # is frozen in it. Its dtype it says too.
        return {
            "name": self.name,
            "image_shape": list(self.image_shape),
            **({} if self.trainable else {"trainable": False}),
        }


def checked_shape(encoder: VisionForward, image_shape: Any) -> ImageShape:
    """Returns (height, width, 3): what was given, or the encoder's own size.

    Raises:
        ValueError: if it is another shape, or no whole patches.
    """
    if image_shape is None:
        side: int = encoder.image_size
        return side, side, 3
    try:
        height, width, channels = image_shape
    except (TypeError, ValueError):
        height = width = channels = None
    whole = all(isinstance(side, int) and side > 0 for side in (height, width))
    if not whole or channels != 3:
        raise ValueError(
            f"image_shape must be (height, width, 3) in pixels, got {image_shape!r}. "
            f"None is the encoder's own size; another size is another backbone."
        )
    encoder.grid((None, height, width, 3))  # or says which sizes are in whole patches
    return height, width, 3


def vision_encoder_of(encoder: Any) -> VisionForward:
    """Returns a vision encoder, of a dual encoder its vision tower.

    Raises:
        TypeError: if it is neither.
    """
    return checked_core(
        encoder.vision_encoder if isinstance(encoder, PECore) else encoder
    )


def read_part(config: Mapping[str, Any], key: str, dtype: Any, *inside: str) -> Any:
    """Builds an encoder or a pyramid out of a backbone's configuration.

    Args:
        config: of a backbone.
        key: of the part.
        dtype: policy that it gets in place of its own; None for that.
        inside: keys of the parts in it that get the policy too.
    """
    part = config[key]
    if not isinstance(part, Mapping):  # a model already
        return part
    part = dict(part)
    values = part["config"] = dict(part["config"])
    if dtype is not None:
        policy = keras.dtype_policies.serialize(keras.dtype_policies.get(dtype))
        values["dtype"] = policy
        for name in inside:
            values[name] = {
                **values[name],
                "config": {**values[name]["config"], "dtype": policy},
            }
    return keras.saving.deserialize_keras_object(part)


# === Whose preset it is ===
def hub_preset(preset: str | os.PathLike[str]) -> str | None:
    """Returns a preset that KerasHub wrote, as it takes them; None if it is ours.

    Raises:
        TypeError: if it is no text and no path.
    """
    try:
        resolve(preset, "config")
    except KerasHubPreset:
        name = os.fspath(preset)
        path = Path(name).expanduser()
        return str(path) if path.is_dir() else name
    except CheckpointError:  # ours will say what is wrong
        return None
    return None


def refuse_changes(preset: Any, changes: Mapping[str, Any]) -> None:
    """Refuses what a backbone that is written already can't be asked for.

    Raises:
        ValueError: naming what was given.
    """
    given = [
        f"{name}={value!r}" for name, value in changes.items() if value is not None
    ]
    if given:
        raise ValueError(
            f"{preset} holds a finished backbone, and {', '.join(given)} would be "
            f"another. Cut its encoder instead: "
            f"PEBackbone.from_encoder(PEBackbone.from_preset(preset).encoder, ...)."
        )
