"""Searching folders of images by text or by image."""

from keras_pe.search.image_index import ImageIndex, Match
from keras_pe.search.result_page import result_page

__all__ = ["ImageIndex", "Match", "result_page"]
