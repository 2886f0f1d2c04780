"""Layers of Perception Encoder, one idea a file."""

from keras_pe.layers.attention import SelfAttention
from keras_pe.layers.attention_pooling import AttentionPooling
from keras_pe.layers.patch_embedding import PatchEmbedding
from keras_pe.layers.rope import rotary_table, rotate
from keras_pe.layers.transformer import FeedForward, LayerScale, TransformerBlock

__all__ = [
    "AttentionPooling",
    "FeedForward",
    "LayerScale",
    "PatchEmbedding",
    "SelfAttention",
    "TransformerBlock",
    "rotary_table",
    "rotate",
]
