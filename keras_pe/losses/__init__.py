"""Losses: pure functions of tensors."""

from keras_pe.losses.contrastive import softmax_contrastive_loss

__all__ = ["softmax_contrastive_loss"]
