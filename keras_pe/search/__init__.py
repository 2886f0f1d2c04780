"""Searching folders of images by text or by image."""

from keras_pe.search.image_index import ImageIndex, Match

__all__ = ["ImageIndex", "Match"]
