"""Training stages, each a `keras.Model` around an encoder."""

from keras_pe.training.contrastive import ContrastiveTrainer

__all__ = ["ContrastiveTrainer"]
