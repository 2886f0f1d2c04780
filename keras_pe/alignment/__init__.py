"""Alignment in one call: what an inner layer of an encoder knows moves to its last."""

from keras_pe.alignment.layered_encoder import LayeredEncoder
from keras_pe.alignment.report import AlignmentReport
from keras_pe.alignment.spatial import align_spatial
from keras_pe.alignment.tasks import Task

__all__ = ["AlignmentReport", "LayeredEncoder", "Task", "align_spatial"]
