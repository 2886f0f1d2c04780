"""Evaluation protocols: zero-shot classification and retrieval, reproducibly."""

from keras_pe.evaluation.accuracy import evaluate_zero_shot
from keras_pe.evaluation.evaluation_result import EvaluationResult
from keras_pe.evaluation.hashes import data_hash, weights_hash
from keras_pe.evaluation.intervals import Score
from keras_pe.evaluation.retrieval import evaluate_retrieval, retrieval_recall
from keras_pe.evaluation.sample_embedder import VideoProtocol
from keras_pe.evaluation.zero_shot import Prediction, ZeroShotClassifier
from keras_pe.preprocessing.prompts import TEMPLATES, read_templates

__all__ = [
    "TEMPLATES",
    "EvaluationResult",
    "Prediction",
    "Score",
    "VideoProtocol",
    "ZeroShotClassifier",
    "data_hash",
    "evaluate_retrieval",
    "evaluate_zero_shot",
    "read_templates",
    "retrieval_recall",
    "weights_hash",
]
