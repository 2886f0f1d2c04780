"""Cuts a vision encoder after one of its blocks."""

from typing import TYPE_CHECKING

from keras_pe.layers.layer_state import STATE_KEYS, restore_state
from keras_pe.models.features import resolve_layers

if TYPE_CHECKING:
    from keras_pe.models.vision_encoder import PEVisionEncoder


def truncated(
    encoder: "PEVisionEncoder", layer: int, norm: bool = False
) -> "PEVisionEncoder":
    """Returns a copy of an encoder that ends after a block; see its `truncate`."""
    from keras_pe.models.vision_encoder import PEVisionEncoder

    (number,) = resolve_layers(layer, encoder.num_layers)
    if number == 0:
        raise ValueError("truncate needs at least one block, got layer 0.")
    if norm and encoder.norm is None:
        raise ValueError("norm=True was asked of an encoder without a final norm.")
    config = PEVisionEncoder.get_config(encoder)
    state = {key: config.pop(key) for key in STATE_KEYS if key in config}
    rates = encoder.drop_path_rates()
    config.update(
        num_layers=number,
        pooling=None,
        output_dim=None,
        output_bias=False,
        final_norm=norm,
        drop_path=rates[number - 1],
    )
    if encoder.window_size is not None:
        config["global_blocks"] = [b for b in encoder.global_blocks if b <= number]
    small = PEVisionEncoder.from_config(config)
    parts = {"", *(layer.name for layer in small._layers)}
    restore_state(  # what is frozen, quantised or adapted by LoRA stays so
        small,
        {
            key: {p: v for p, v in entries.items() if p.split("/")[0] in parts}
            for key, entries in state.items()
        },
    )
    pairs = [
        (encoder.patch_embedding, small.patch_embedding),
        (encoder.pre_norm, small.pre_norm),
        *zip(encoder.blocks, small.blocks, strict=False),
    ]
    if norm:
        pairs.append((encoder.norm, small.norm))
    for ours, theirs in pairs:
        theirs.set_weights(ours.get_weights())
    return small
