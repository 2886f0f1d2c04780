"""Searching folders of pictures by text or by picture."""

from keras_pe.search.picture_index import Match, PictureIndex

__all__ = ["Match", "PictureIndex"]
