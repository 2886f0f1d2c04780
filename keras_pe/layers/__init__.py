"""Layers of Perception Encoder, one idea a file."""

from keras_pe.layers.attention import SelfAttention, rotary_table, rotate
from keras_pe.layers.patch_embedding import PatchEmbedding
from keras_pe.layers.projector import VisionProjector
from keras_pe.layers.transformer import (
    AttentionPooling,
    FeedForward,
    LayerScale,
    TransformerBlock,
)

__all__ = [
    "AttentionPooling",
    "FeedForward",
    "LayerScale",
    "PatchEmbedding",
    "SelfAttention",
    "TransformerBlock",
    "VisionProjector",
    "rotary_table",
    "rotate",
]
