"""Losses: pure functions of tensors."""

from keras_pe.losses.answers import answer_loss
from keras_pe.losses.chunked_contrastive import chunked_softmax_contrastive_loss
from keras_pe.losses.contrastive import softmax_contrastive_loss
from keras_pe.losses.correspondence import (
    correspondence_loss,
    correspondence_target,
)
from keras_pe.losses.distillation import (
    chunked_kl_distillation_loss,
    kl_distillation_loss,
)
from keras_pe.losses.sigmoid import (
    chunked_sigmoid_contrastive_loss,
    sigmoid_contrastive_loss,
)
from keras_pe.losses.token_alignment import (
    feature_alignment_loss,
    masked_alignment_loss,
)

__all__ = [
    "answer_loss",
    "chunked_kl_distillation_loss",
    "chunked_sigmoid_contrastive_loss",
    "chunked_softmax_contrastive_loss",
    "correspondence_loss",
    "correspondence_target",
    "feature_alignment_loss",
    "kl_distillation_loss",
    "masked_alignment_loss",
    "sigmoid_contrastive_loss",
    "softmax_contrastive_loss",
]
