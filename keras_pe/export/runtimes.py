"""Opens an exported file in its runtime, as whoever deploys it does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.export.packages import require

Run = Callable[[np.ndarray], list[np.ndarray]]  # a batch to all outputs, in order


def open_file(path: Path, file_format: str, threads: int = 1) -> Run:
    """Opens a file.

    Args:
        path: what was exported.
        file_format: "onnx", "openvino", "litert", "savedmodel" or "torch".
        threads: that it may use, where the runtime lets that be set for one model.

    Returns:
        A function of a batch that returns the outputs.

    Raises:
        ImportError: if the runtime is not installed.
    """
    return _OPENERS[file_format](path, threads)


def runtime_packages(file_format: str) -> tuple[str, ...]:
    """Returns the packages whose versions matter to a file of this format."""
    return {
        "onnx": ("onnx", "onnxruntime"),
        "openvino": ("onnx", "openvino"),
        "litert": ("tensorflow", "ai-edge-litert"),
        "savedmodel": ("tensorflow",),
        "torch": ("torch",),
    }[file_format]


def _onnx(path: Path, threads: int) -> Run:
    runtime = require("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = runtime.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"]
    )
    name = session.get_inputs()[0].name
    return lambda batch: list(session.run(None, {name: batch}))


def _openvino(path: Path, threads: int) -> Run:
    openvino = require("openvino")
    # By itself it computes in bfloat16 where the CPU can: not what was asked for.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)

    def run(batch: np.ndarray) -> list[np.ndarray]:
        found = compiled(batch)
        return [np.array(found[output]) for output in compiled.outputs]

    return run


def _litert(path: Path, threads: int) -> Run:
    interpreter = _interpreter()(model_path=str(path), num_threads=threads)
    runner = interpreter.get_signature_runner("serving_default")

    def run(batch: np.ndarray) -> list[np.ndarray]:
        found = runner(inputs=batch)
        return [np.array(found[name]) for name in sorted(found)]

    return run


def _interpreter() -> Any:
    """Returns LiteRT's interpreter; TensorFlow brings one, older, too."""
    try:
        return require("ai_edge_litert.interpreter").Interpreter
    except ImportError:
        return require("tensorflow").lite.Interpreter


def _savedmodel(path: Path, threads: int) -> Run:
    tensorflow = require("tensorflow")
    loaded = tensorflow.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(batch: np.ndarray) -> list[np.ndarray]:
        found = serve(inputs=tensorflow.constant(batch))
        return [found[name].numpy() for name in sorted(found)]

    run.loaded = loaded  # type: ignore[attr-defined]  # else its weights are freed
    return run


def _torch(path: Path, threads: int) -> Run:
    torch = require("torch")
    module = torch.export.load(path).module()

    def run(batch: np.ndarray) -> list[np.ndarray]:
        with torch.no_grad():
            found = module(torch.from_numpy(batch))
        outputs = found if isinstance(found, tuple | list) else [found]
        return [output.numpy() for output in outputs]

    return run


_OPENERS: dict[str, Callable[[Path, int], Run]] = {
    "onnx": _onnx,
    "openvino": _openvino,
    "litert": _litert,
    "savedmodel": _savedmodel,
    "torch": _torch,
}
