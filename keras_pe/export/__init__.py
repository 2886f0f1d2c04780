"""Models as files of other runtimes: ONNX, OpenVINO, LiteRT, SavedModel, `.pt2`."""

from keras_pe.export.comparison import ExportError
from keras_pe.export.exporting import export
from keras_pe.export.receipt import FileReceipt, Receipt

__all__ = ["ExportError", "FileReceipt", "Receipt", "export"]
