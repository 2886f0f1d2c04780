"""Layer probing: which layer of an encoder a task needs."""

from keras_pe.probing.attentive import Attentive
from keras_pe.probing.correspondence import Correspondence, PointPairs
from keras_pe.probing.depth import Depth, DPTDepth
from keras_pe.probing.language_data import (
    ImageQuestion,
    QuestionSet,
    question_targets,
)
from keras_pe.probing.language_probe import LanguageProbe
from keras_pe.probing.layer_for_llm import LanguageLayers, layer_for_llm
from keras_pe.probing.layer_outputs import intermediate_model
from keras_pe.probing.logistic import Logistic
from keras_pe.probing.nearest_neighbours import NearestNeighbours
from keras_pe.probing.probe import FittedProbe, Probe, TrainingFreeProbe
from keras_pe.probing.ridge import Ridge, RidgeRegression
from keras_pe.probing.segmentation import Segmentation
from keras_pe.probing.sweep import sweep
from keras_pe.probing.sweep_comparison import PairedGain, paired_gain
from keras_pe.probing.sweep_plot import plot_sweeps
from keras_pe.probing.sweep_result import LayerScore, SweepResult
from keras_pe.probing.tracking import Clip, Tracking

__all__ = [
    "Attentive",
    "Clip",
    "Correspondence",
    "DPTDepth",
    "Depth",
    "FittedProbe",
    "ImageQuestion",
    "LanguageLayers",
    "LanguageProbe",
    "LayerScore",
    "Logistic",
    "NearestNeighbours",
    "PairedGain",
    "PointPairs",
    "Probe",
    "QuestionSet",
    "Ridge",
    "RidgeRegression",
    "Segmentation",
    "SweepResult",
    "Tracking",
    "TrainingFreeProbe",
    "intermediate_model",
    "layer_for_llm",
    "paired_gain",
    "plot_sweeps",
    "question_targets",
    "sweep",
]
