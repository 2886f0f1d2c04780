"""Layer probing: which layer of an encoder a task needs."""

from keras_pe.probing.attentive import Attentive
from keras_pe.probing.correspondence import Correspondence, PointPairs
from keras_pe.probing.depth import Depth, DPTDepth
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
    "LayerScore",
    "Logistic",
    "NearestNeighbours",
    "PairedGain",
    "PointPairs",
    "Probe",
    "Ridge",
    "RidgeRegression",
    "Segmentation",
    "SweepResult",
    "Tracking",
    "TrainingFreeProbe",
    "intermediate_model",
    "paired_gain",
    "plot_sweeps",
    "sweep",
]
