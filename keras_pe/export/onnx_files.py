"""A tower as ONNX or OpenVINO; any backend writes them, in its own process."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_pe.export.layer_values import file_value
from keras_pe.export.onnx_graph import Quantized
from keras_pe.export.onnx_towers import tower_graph
from keras_pe.export.packages import require
from keras_pe.models.tower import Tower

LARGEST_IN_ONE = 3 * 2**29  # bytes; protobuf ends at 2 GB


def write_onnx(
    tower: Tower,
    path: Path,
    image_size: tuple[int, int] | None,
    layers: tuple[str, ...] = (),
    quantized: Mapping[str, Quantized] | None = None,
    half: bool = False,
) -> None:
    """Writes an ONNX file; weights beyond 1.5 GB go into a file beside it.

    Args:
        tower: the encoder.
        path: of the file.
        image_size: height and width; None is the tower's own.
        layers: whose outputs it returns after the tower's.
        quantized: the matrices in int8.
        half: whether weights are stored in float16.
    """
    onnx = require("onnx")
    values = tuple(map(file_value, layers))
    model = tower_graph(tower, image_size, quantized, half, values)[0]
    beside = path.with_name(f"{path.name}.data")
    beside.unlink(missing_ok=True)  # onnx would append to it
    if sum(len(one.raw_data) for one in model.graph.initializer) <= LARGEST_IN_ONE:
        onnx.save(model, path)
        return
    onnx.save(model, path, save_as_external_data=True, location=beside.name)


def write_openvino(
    tower: Tower,
    path: Path,
    image_size: tuple[int, int] | None,
    layers: tuple[str, ...] = (),
    quantized: Mapping[str, Quantized] | None = None,
    half: bool = False,
) -> None:
    """Writes OpenVINO's `.xml`, and its `.bin` beside it, by way of ONNX.

    Args: those of `write_onnx`.
    """
    openvino: Any = require("openvino")
    between = path.with_suffix(".onnx")
    write_onnx(tower, between, image_size, layers, quantized)
    try:
        # Not convert_model: the same reader, but it reports over the network first.
        model = openvino.Core().read_model(between)
        openvino.save_model(model, path, compress_to_fp16=half)
    finally:
        for left in path.parent.glob(f"{between.name}*"):
            left.unlink()
