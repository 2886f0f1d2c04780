"""Exports a model: writes its files, runs them, and leaves none that is off."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.export import beside, child, onnx_files, quantization
from keras_pe.export.comparison import (
    Compared,
    ExportError,
    compare,
    diverging_layer,
    latency,
    score_change,
)
from keras_pe.export.layer_values import layer_names, outputs_with_layers
from keras_pe.export.onnx_graph import Quantized
from keras_pe.export.onnx_towers import tower_graph
from keras_pe.export.receipt import (
    FileReceipt,
    Receipt,
    processor,
    today,
    versions_of,
)
from keras_pe.export.runtimes import Run, open_file
from keras_pe.export.subject import (
    Inputs,
    Subject,
    encoder_of,
    load_subject,
    read_inputs,
    text_vectors,
    token_ids,
)
from keras_pe.files import check_directory_target, write_directory
from keras_pe.models.compiled import no_gradient
from keras_pe.models.tower import Tower
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.preprocessing.tokenizer import PETokenizer
from keras_pe.replaced_folders import would_be_lost

Format = Literal["onnx", "openvino", "litert", "savedmodel", "torch"]
Quantize = Literal["none", "fp16", "int8"]
SUFFIXES = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "litert": ".tflite",
    "savedmodel": "",
    "torch": ".pt2",
}
TOWERS = {"image": ("image",), "text": ("text",), "both": ("image", "text")}
# All that an export writes, and Python if `run.py` is imported.
OWN = {
    *("export.json", "receipt.json", "tokenizer.json", "run.py", "__pycache__"),
    *(
        w + end
        for w in TOWERS["both"]
        for end in (*SUFFIXES.values(), ".onnx.data", ".bin")
    ),
}
QUANTIZED = ("onnx", "openvino", "litert")  # formats that keep fewer bits
CALIBRATION = 64  # inputs


def export(
    model: Any,
    output: str | os.PathLike[str],
    format: Format = "onnx",
    tower: Literal["image", "text", "both"] = "image",
    quantize: Quantize = "none",
    image_size: int | None = None,
    images: Any = None,
    image_converter: PEImageConverter | None = None,
    tokenizer: PETokenizer | None = None,
    threads: int = 1,
) -> Receipt:
    """Exports a model to a folder, runs what it wrote, and says how it compares.

    The folder holds a file a tower, with a dynamic batch; `export.json`, what prepares
    inputs; `tokenizer.json`, if there are texts; `run.py`, which needs NumPy, Pillow,
    tokenizers and the runtime alone; and `receipt.json`. Outputs are the tower's own,
    not normalised. A file whose outputs differ from the model's is not left behind.

    Args:
        model: preset name, directory or handle, a `PECore`, or a vision encoder. LoRA
            is merged; other dtypes become float32.
        output: the folder; made if missing. An earlier export that is there is
            replaced, and anything else is left alone.
        format: "onnx", "openvino", "litert", "savedmodel" or "torch" (`.pt2`). The last
            three are written by TensorFlow or PyTorch, in a process of its own where
            another backend runs.
        tower: "image", "text" or "both".
        quantize: "fp16" stores weights in float16; "int8" multiplies in int8. Both for
            ONNX, OpenVINO and LiteRT.
        image_size: pixels a side; None is the preset's own.
        images: what the file is compared, calibrated and scored on: a folder, a folder
            of folders named like classes, or paths. None takes the drawings that ship
            with the package. Of more than 2,048 every so manyth counts.
        image_converter: how images are prepared; None is the preset's.
        tokenizer: the tokenizer of a `PECore` that is no preset.
        threads: of the file, for the latency.

    Returns:
        A `Receipt`; print it.

    Raises:
        ExportError: if a file does not compute what the model does, naming the first
            layer that differs.
        ImportError: if a package is missing, saying which.
        ValueError: if arguments do not fit together, or the folder holds anything but
            an earlier export.

    Example:
        >>> receipt = export("pe_core_emoji_small_patch8_64", "emoji_onnx")
        >>> receipt.cosine > 0.99999
        True
    """
    _check(format, tower, quantize)
    check_sizes(threads=threads)
    check_directory_target(output)
    _check_output(Path(output))
    subject = load_subject(model, image_size, image_converter, tokenizer)
    for which in TOWERS[tower]:
        subject.tower(which)
    inputs = read_inputs(subject, images)
    with write_directory(output) as folder:
        files: dict[str, FileReceipt] = {}
        runs: dict[str, Run] = {}
        for which in TOWERS[tower]:
            job = _Job(subject, inputs, which, folder, format, quantize, threads)
            files[which], runs[which] = job.write()
        beside.write(folder, subject, format, {w: f.file for w, f in files.items()})
        receipt = Receipt(
            model=subject.name,
            format=format,
            quantize=quantize,
            image_size=subject.image_converter.image_size,
            threads=threads,
            files=files,
            scores=_scores(subject, inputs, runs),
            versions=versions_of(format),
            machine=processor(),
            date=today(),
        )
        receipt.save(folder / "receipt.json")
    return receipt


def _check_output(folder: Path) -> None:
    """Refuses a folder in which something else than an export would be lost."""
    others = would_be_lost(folder, OWN, "receipt.json")
    if others:
        raise ValueError(
            f"{folder} holds {', '.join(others[:5])}, which is no export, and would be "
            f"deleted. Give another folder, new or with nothing but an earlier export."
        )


def _check(file_format: str, tower: str, quantize: str) -> None:
    for name, value, choices in (
        ("format", file_format, SUFFIXES),
        ("tower", tower, TOWERS),
        ("quantize", quantize, ("none", "fp16", "int8")),
    ):
        if value not in choices:
            raise ValueError(f"{name}={value!r}: expected one of {tuple(choices)}.")
    if quantize != "none" and file_format not in QUANTIZED:
        raise ValueError(
            f"quantize={quantize!r} with format={file_format!r}: expected one of "
            f'{QUANTIZED}, or quantize="none".'
        )


class _Job:
    """One tower on its way into a file."""

    def __init__(
        self,
        subject: Subject,
        inputs: Inputs,
        which: str,
        folder: Path,
        file_format: str,
        quantize: str,
        threads: int,
    ) -> None:
        self.subject = subject
        self.tower: Tower = subject.tower(which)
        self.which, self.folder = which, folder
        self.format, self.quantize, self.threads = file_format, quantize, threads
        image = which == "image"
        self.inputs = inputs.images if image else token_ids(subject, inputs)
        self.size = subject.image_converter.image_size if image else None
        self.encode = encoder_of(self.tower)
        self.quantized: Mapping[str, Quantized] = {}
        self.calibrated_on = 0

    def write(self) -> tuple[FileReceipt, Run]:
        """Writes the file, within bounds, and opens it."""
        path = self.folder / f"{self.which}{SUFFIXES[self.format]}"
        run, compared, kept = self._within_bounds(path)
        with _threads(self.threads):
            speed = latency(run, self.encode, self.inputs[:1])
        size = sum(
            file.stat().st_size
            for part in self.folder.glob(f"{self.which}*")
            for file in ([part] if part.is_file() else part.rglob("*"))
            if file.is_file()
        )
        receipt = FileReceipt(
            path.name,
            size,
            tuple(compared),
            speed,
            len(self.quantized),
            kept,
            self.calibrated_on,
        )
        return receipt, run

    def _within_bounds(self, path: Path) -> tuple[Run, list[Compared], tuple[str, ...]]:
        measured: Mapping[str, quantization.Measured] = {}
        plans: list[dict[str, Any]] = [{}]
        if self.quantize == "int8" and self.format != "litert":
            measured = self._measured()
            plans = quantization.attempts(measured)
        for plan in plans:
            self.quantized = plan
            self._write(path)
            run = open_file(path, self.format, self.threads)
            compared = compare(run, self.encode, self.inputs)
            if all(one.within(self.quantize) for one in compared):
                kept = tuple(name for name in measured if name not in plan)
                return run, compared, kept
        raise self._refusal(compared)

    def _write(self, path: Path, layers: tuple[str, ...] = ()) -> None:
        if self.format in ("onnx", "openvino"):
            write = (
                onnx_files.write_onnx
                if self.format == "onnx"
                else onnx_files.write_openvino
            )
            half = self.quantize == "fp16"
            write(self.tower, path, self.size, layers, self.quantized, half)
            return
        if path.is_dir():
            shutil.rmtree(path)
        example = self.inputs[:2]
        child.write(
            self.subject.model,
            self.tower,
            path,
            self.format,
            example,
            layers,
            self.quantize,
        )

    def _measured(self) -> dict[str, quantization.Measured]:
        _, graph = tower_graph(self.tower, self.size)
        matrices = {k: v for k, v in graph.matrices.items() if k.startswith("block_")}
        values = tuple(dict.fromkeys(value for value, _ in matrices.values()))
        rows = self.inputs[:: max(1, len(self.inputs) // CALIBRATION)][:CALIBRATION]
        self.calibrated_on = len(rows)
        with self._with_layers(values) as run:

            def named(batch: np.ndarray) -> dict[str, np.ndarray]:
                return dict(zip(values, run(batch)[1:], strict=True))

            return quantization.calibrate(
                named,
                [rows[n : n + 1] for n in range(len(rows))],
                {name: value for name, (value, _) in matrices.items()},
                {name: kernel for name, (_, kernel) in matrices.items()},
            )

    @contextlib.contextmanager
    def _with_layers(self, layers: tuple[str, ...]) -> Iterator[Run]:
        """Opens a file that gives the layers' outputs too."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"layers{SUFFIXES[self.format]}")
            self._write(path, layers)
            yield open_file(path, self.format, self.threads)

    def _refusal(self, compared: list[Compared]) -> ExportError:
        worst = min(compared, key=lambda one: one.cosine)
        return ExportError(
            f"The {self.which} tower in {self.format}, quantize={self.quantize}, does "
            f"not compute what the model does: cosine {worst.cosine:.7f}, relative "
            f"error {worst.error:.2g} at a batch of {worst.batch}. The first layer "
            f"that differs is {self._diverging_layer()}. No file was left. Try "
            f'quantize="none" or another format; if that is what this was, please '
            f"report it with the versions of your packages."
        )

    def _diverging_layer(self) -> str:
        names = layer_names(self.tower)
        batch = self.inputs[:2]
        with no_gradient():
            outputs = outputs_with_layers(
                self.tower, ops.convert_to_tensor(batch), names
            )
        wanted = [np.asarray(ops.convert_to_numpy(value)) for value in outputs[1:]]
        with self._with_layers(names) as run:
            found = run(batch)[1:]
        return diverging_layer(
            dict(zip(names, found, strict=True)),
            dict(zip(names, wanted, strict=True)),
            self.quantize,
        )


def _scores(
    subject: Subject, inputs: Inputs, runs: Mapping[str, Run]
) -> dict[str, Any]:
    """Scores files and model, where there are classes and both towers."""
    if subject.tokenizer is None or not inputs.names:
        return {}
    count = len(inputs.labels)
    rows = inputs.images[:count]

    def embedded(which: str, encode: Any) -> np.ndarray:
        if which == "image":
            return np.concatenate([encode(rows[n : n + 8]) for n in range(0, count, 8)])
        return text_vectors(subject, inputs.names, encode)

    pairs = {}
    for which in ("image", "text"):
        own = embedded(which, encoder_of(subject.tower(which)))
        run = runs.get(which)
        pairs[which] = (own, own if run is None else embedded(which, _first(run)))
    return score_change(pairs["image"], pairs["text"], inputs.labels)


def _first(run: Run) -> Any:
    return lambda batch: run(batch)[0]


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Lets PyTorch use as many threads as the file has; others can't be told."""
    if keras.backend.backend() != "torch":
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
