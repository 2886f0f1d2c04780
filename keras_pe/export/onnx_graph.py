"""An ONNX graph under construction: nodes and constants by the names of layers."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_pe.export.packages import require

# Gelu came with 20; IR 10 is what its time's runtimes read (ONNX 1.15, ONNX Runtime
# 1.17, both of 2024).
OPSET, IR_VERSION = 20, 10
LARGEST_WEIGHT = 64  # in int8; see quantization.py

Inputs = tuple[str, str, tuple[int | str, ...]]  # name, "FLOAT" or "INT32", shape


class Quantized(NamedTuple):
    """How the input of a matrix becomes whole numbers: `round(x / scale) + zero`."""

    scale: float
    zero: int


class Graph:
    """Collects the nodes of a model; each method adds one and returns its output.

    A value is called like the layer that gives it, so that what a file computes can be
    compared with the model layer by layer.

    Args:
        quantized: the matrices to multiply in int8, by name.
        half: whether constants of more than one axis are stored in float16. They are
            brought back to float32 when the file is opened, once.
    """

    def __init__(
        self, quantized: Mapping[str, Quantized] | None = None, half: bool = False
    ) -> None:
        self._onnx = require("onnx")
        self._nodes: list[Any] = []
        self._constants: dict[str, Any] = {}
        self._quantized = dict(quantized or {})
        self._half = half
        # The value that each matrix multiplies, and the matrix.
        self.matrices: dict[str, tuple[str, np.ndarray]] = {}

    def add(self, kind: str, *inputs: str, name: str, **attributes: Any) -> str:
        """Adds a node of one output, which gets its name."""
        node = self._onnx.helper.make_node(
            kind, list(inputs), [name], name=name, **attributes
        )
        self._nodes.append(node)
        return name

    def split(self, x: str, sizes: Sequence[int], axis: int, name: str) -> list[str]:
        """Cuts a value along an axis."""
        names = [f"{name}/{place}" for place in range(len(sizes))]
        lengths = self.constant(np.array(sizes, "int64"), f"{name}/sizes")
        node = self._onnx.helper.make_node(
            "Split", [x, lengths], names, name=name, axis=axis
        )
        self._nodes.append(node)
        return names

    def constant(self, value: np.ndarray, name: str, exact: bool = False) -> str:
        """Adds numbers that are stored in the file; `exact` ones never in float16."""
        value = np.asarray(value, order="C")  # ascontiguousarray makes scalars rows
        if self._half and not exact and value.dtype == np.float32 and value.ndim > 1:
            stored = self._onnx.numpy_helper.from_array(
                value.astype(np.float16), f"{name}/half"
            )
            self._constants[name] = stored
            float32 = self._onnx.TensorProto.FLOAT
            return self.add("Cast", f"{name}/half", name=name, to=float32)
        self._constants[name] = self._onnx.numpy_helper.from_array(value, name)
        return name

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        """Reshapes; 0 keeps the size of that axis, which the batch needs."""
        sizes = self.constant(np.array(shape, "int64"), f"{name}/shape")
        return self.add("Reshape", x, sizes, name=name)

    def dense(
        self, x: str, kernel: np.ndarray, bias: np.ndarray | None, name: str
    ) -> str:
        """Multiplies by a matrix `(in, out)` and adds a bias, if there is one."""
        self.matrices[name] = (x, kernel)
        product = name if bias is None else f"{name}/product"
        if name in self._quantized:
            x, weights = self._in_int8(x, kernel, name)
        else:
            weights = self.constant(kernel, f"{name}/kernel")
        self.add("MatMul", x, weights, name=product)
        if bias is None:
            return product
        return self.add("Add", product, self.constant(bias, f"{name}/bias"), name=name)

    def _in_int8(self, x: str, kernel: np.ndarray, name: str) -> tuple[str, str]:
        how = self._quantized[name]
        scale = self.constant(np.array(how.scale, "float32"), f"{name}/scale")
        zero = self.constant(np.array(how.zero, "uint8"), f"{name}/zero")
        rounded = self.add("QuantizeLinear", x, scale, zero, name=f"{name}/rounded")
        x = self.add("DequantizeLinear", rounded, scale, zero, name=f"{name}/input")
        whole, scales = int8_columns(kernel)
        stored = self.constant(whole, f"{name}/int8")
        steps = self.constant(scales, f"{name}/int8_scales")
        zeros = self.constant(np.zeros(len(scales), "int8"), f"{name}/int8_zeros")
        weights = self.add(
            "DequantizeLinear", stored, steps, zeros, name=f"{name}/kernel", axis=1
        )
        return x, weights

    def model(
        self,
        inputs: Inputs,
        outputs: Mapping[str, tuple[int | str, ...]],
    ) -> Any:
        """Returns the finished `ModelProto`, which takes the numbers stored here along.

        Args:
            inputs: what the file reads, the batch in its shape by name.
            outputs: shapes by name; all are float32.
        """
        onnx = self._onnx
        name, dtype, shape = inputs
        make = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            self._nodes,
            "keras_pe",
            [make(name, getattr(onnx.TensorProto, dtype), shape)],
            [
                make(key, onnx.TensorProto.FLOAT, sizes)
                for key, sizes in outputs.items()
            ],
        )
        model = onnx.helper.make_model(
            graph,
            opset_imports=[onnx.helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="keras_pe",
        )
        # Last, and one by one: all of these copy what they are given.
        for constant in list(self._constants):
            model.graph.initializer.append(self._constants.pop(constant))
        return model


def int8_columns(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rounds a matrix to int8, with a scale for each column.

    Args:
        kernel: float32 `(in, out)`.

    Returns:
        int8 `(in, out)` from -64 to 64, and float32 `(out,)`.

    Example:
        >>> whole, scales = int8_columns(np.array([[1.0, -4.0], [-0.5, 2.0]]))
        >>> whole.tolist()
        [[64, -64], [-32, 32]]
    """
    scales = np.maximum(np.abs(kernel).max(axis=0), 1e-12) / LARGEST_WEIGHT
    return np.rint(kernel / scales).astype("int8"), scales.astype("float32")
