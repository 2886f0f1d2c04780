"""Evaluation protocols: zero-shot classification and retrieval, reproducibly."""

from keras_pe.evaluation.accuracy import evaluate_zero_shot
from keras_pe.evaluation.evaluation_result import EvaluationResult
from keras_pe.evaluation.hashes import data_hash, weights_hash
from keras_pe.evaluation.intervals import Score
from keras_pe.evaluation.order_probe import OrderProbe, order_probe
from keras_pe.evaluation.retrieval import evaluate_retrieval, retrieval_recall
from keras_pe.evaluation.sample_embedder import VideoProtocol
from keras_pe.evaluation.video_card import VideoCard, card_of_frames, video_card
from keras_pe.evaluation.zero_shot import Prediction, ZeroShotClassifier
from keras_pe.preprocessing.prompts import TEMPLATES, read_templates

__all__ = [
    "TEMPLATES",
    "EvaluationResult",
    "OrderProbe",
    "Prediction",
    "Score",
    "VideoCard",
    "VideoProtocol",
    "ZeroShotClassifier",
    "card_of_frames",
    "data_hash",
    "evaluate_retrieval",
    "evaluate_zero_shot",
    "order_probe",
    "read_templates",
    "retrieval_recall",
    "video_card",
    "weights_hash",
]
