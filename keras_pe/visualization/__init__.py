"""Figures of what the model sees."""

from keras_pe.visualization.attention_weights import (
    PoolingAttention,
    attention_maps,
    pooling_attention,
)
from keras_pe.visualization.figures import (
    attention_figure,
    layer_figure,
    overlay_figure,
    pca_figure,
    similarity_figure,
    text_score_figure,
)
from keras_pe.visualization.patch_embeddings import (
    Contributions,
    contributions,
    patch_embeddings,
)
from keras_pe.visualization.pca import pca_map
from keras_pe.visualization.pointing import pointing_accuracy
from keras_pe.visualization.similarity import similarity_map
from keras_pe.visualization.text_scores import text_score_maps

__all__ = [
    "Contributions",
    "PoolingAttention",
    "attention_figure",
    "attention_maps",
    "contributions",
    "layer_figure",
    "overlay_figure",
    "patch_embeddings",
    "pca_figure",
    "pca_map",
    "pointing_accuracy",
    "pooling_attention",
    "similarity_figure",
    "similarity_map",
    "text_score_figure",
    "text_score_maps",
]
