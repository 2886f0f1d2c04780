"""Which cut of an encoder, in which precision and at which size, is worth its time."""

from keras_pe.frontier.frontier import frontier
from keras_pe.frontier.frontier_result import Frontier, FrontierPoint, Refused

__all__ = ["Frontier", "FrontierPoint", "Refused", "frontier"]
