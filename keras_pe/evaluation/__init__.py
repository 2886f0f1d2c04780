"""Evaluation protocols."""

from keras_pe.evaluation.zero_shot import Prediction, ZeroShotClassifier

__all__ = ["Prediction", "ZeroShotClassifier"]
