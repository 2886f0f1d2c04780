"""An older name of a part of `keras_pe.files`."""

from keras_pe.files import write_atomically

__all__ = ["write_atomically"]
