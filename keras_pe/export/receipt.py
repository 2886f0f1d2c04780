"""What an export says of itself: compared, scored, timed and weighed."""

import dataclasses
import datetime
import importlib.metadata
import json
import platform
from pathlib import Path
from typing import Any

from keras_pe.evaluation.evaluation_result import package_versions
from keras_pe.export.comparison import Compared, Latency
from keras_pe.export.runtimes import runtime_packages


@dataclasses.dataclass(frozen=True)
class FileReceipt:
    """One tower's file.

    Attributes:
        file: its name.
        num_bytes: its size, with what belongs to it.
        compared: batches in the file and in the model, on real inputs.
        latency: a batch of one, file and model in turns.
        in_int8: how many matrices are.
        kept_in_float32: the matrices of blocks that int8 would have harmed.
        calibrated_on: how many inputs.

    Example:
        >>> file = FileReceipt("image.onnx", 2**20, (Compared(1, 0.9999999, 2e-6),),
        ...     Latency(1, keras_ms=4.0, file_ms=2.0, ratio=2.0))
        >>> file.compared[0].cosine, file.latency.ratio
        (0.9999999, 2.0)
    """

    file: str
    num_bytes: int
    compared: tuple[Compared, ...]
    latency: Latency
    in_int8: int = 0
    kept_in_float32: tuple[str, ...] = ()
    calibrated_on: int = 0


@dataclasses.dataclass(frozen=True)
class Receipt:
    """An export.

    Attributes:
        model: preset or name.
        format: of the files.
        quantize: "none", "fp16" or "int8".
        image_size: height and width that the image file reads.
        threads: that file and, on PyTorch, the model had for the latency.
        files: by tower.
        scores: of file and model on the same images, where there are classes; {} else.
        versions: of what wrote and ran it.
        machine: the processor.
        date: when.

    Example:
        >>> file = FileReceipt("image.onnx", 2**20, (Compared(1, 0.9999999, 2e-6),),
        ...     Latency(1, keras_ms=4.0, file_ms=2.0, ratio=2.0))
        >>> receipt = Receipt("mine", "onnx", "none", (64, 64), 1, {"image": file},
        ...     scores={}, versions={}, machine="a processor", date="2026-11-30")
        >>> print(str(receipt).splitlines()[0])
        mine: onnx, quantize=none
        >>> receipt.cosine
        0.9999999
    """

    model: str
    format: str
    quantize: str
    image_size: tuple[int, int]
    threads: int
    files: dict[str, FileReceipt]
    scores: dict[str, Any]
    versions: dict[str, str]
    machine: str
    date: str

    @property
    def cosine(self) -> float:
        """The lowest cosine of any output with the model's."""
        return min(c.cosine for file in self.files.values() for c in file.compared)

    def to_json(self) -> dict[str, Any]:
        """Returns it as JSON values."""
        content = dataclasses.asdict(self)
        for tower, file in self.files.items():
            entry = content["files"][tower]
            entry["compared"] = [one._asdict() for one in file.compared]
            entry["latency"] = file.latency._asdict()
        return content

    def save(self, path: Path) -> None:
        """Writes it as JSON."""
        path.write_text(json.dumps(self.to_json(), indent=1) + "\n", encoding="utf-8")

    def __str__(self) -> str:
        lines = [f"{self.model}: {self.format}, quantize={self.quantize}"]
        for tower, file in self.files.items():
            cosine = min(one.cosine for one in file.compared)
            speed = file.latency
            lines.append(
                f"  {tower}: {file.file}, {file.num_bytes / 2**20:.1f} MB, cosine "
                f"{cosine:.7f}, {speed.file_ms:.1f} ms an input against "
                f"{speed.keras_ms:.1f} in Keras ({speed.ratio:.1f} times as fast)"
            )
        for name in ("zero_shot", "retrieval"):
            if name in self.scores:
                score = self.scores[name]
                lines.append(
                    f"  {name.replace('_', '-')}: {score['file']:.1%} against "
                    f"{score['model']:.1%} ({self.scores['images']} images, "
                    f"{self.scores['classes']} classes)"
                )
        return "\n".join(lines)


def versions_of(file_format: str) -> dict[str, str]:
    """Returns the versions of what wrote and ran a file."""
    found = package_versions()
    for name in runtime_packages(file_format):
        for other in (name, f"{name}-cpu"):
            try:
                found[other] = importlib.metadata.version(other)
            except importlib.metadata.PackageNotFoundError:
                continue
    return found


def today() -> str:
    """Returns the day, as files say it."""
    return datetime.datetime.now(datetime.UTC).date().isoformat()


def processor() -> str:
    """Returns what the processor calls itself."""
    try:
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
