"""The answer of a layer sweep."""

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe.files import write_atomically
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.probing.layer_outputs import LayerName, functional_outputs


@dataclasses.dataclass(frozen=True)
class LayerScore:
    """The score of one layer.

    Attributes:
        layer: number of the layer: k is the output of block k, 0 the input of block 1.
        score: on the test samples, mean over seeds.
        low: lower end of its 95 % interval.
        high: upper end.
        validation_score: on the validation samples, mean over seeds.
        seed_scores: test score of each seed.
        settings: what each seed's validation chose.

    Example:
        >>> row = LayerScore(4, 0.54, 0.5, 0.58, 0.55, (0.53, 0.55), ({}, {}))
        >>> row.low < row.score < row.high
        True
    """

    layer: LayerName
    score: float
    low: float
    high: float
    validation_score: float
    seed_scores: tuple[float, ...]
    settings: tuple[dict[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class SweepResult:
    """Scores of all layers, the best one, and how sure that is.

    Attributes:
        probe: name of the probe.
        metric: what the scores are.
        higher_is_better: whether larger is better.
        layers: one `LayerScore` a layer, in order.
        candidate: layer of the best validation score, whatever its worth.
        baseline: score of a guess that never looks at an image: a constant one, or
            the probe's own answers to other images, whichever is better.
        gain_over_baseline: 95 % interval of the candidate's gain over that guess, on
            test samples, paired.
        gain_over_last: the same over the last layer.
        protocol: every setting of the sweep.
        encoder: the encoder that was swept; None if the result was read from a file.
        resampled: `(layers, repeats)`, scores of resampled test sets, the same ones
            for every sweep of the same test samples: what `paired_gain` compares. None
            if the result was read from a file without them.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> from keras_pe.probing import sweep
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (30, 16, 16, 3))
        >>> labels = (images.mean(axis=(1, 2, 3)) > 0).astype("int64")
        >>> result = sweep(encoder, (images, labels), probe="ridge", progress=False)
        >>> isinstance(result, SweepResult), result.last_layer, result[2].layer
        (True, 2, 2)
    """

    probe: str
    metric: str
    higher_is_better: bool
    layers: tuple[LayerScore, ...]
    candidate: LayerName
    baseline: float
    gain_over_baseline: tuple[float, float]
    gain_over_last: tuple[float, float]
    protocol: dict[str, Any]
    encoder: keras.Model | None = dataclasses.field(
        default=None, repr=False, compare=False
    )
    resampled: np.ndarray | None = dataclasses.field(
        default=None, repr=False, compare=False
    )

    # === What it says ===
    @property
    def best_layer(self) -> LayerName | None:
        """The layer to use; None if even the best one may be no more than a guess."""
        return self.candidate if self.gain_over_baseline[0] > 0 else None

    @property
    def last_layer(self) -> LayerName:
        """The last layer that was swept."""
        return self.layers[-1].layer

    @property
    def differs_from_last(self) -> bool:
        """Whether the best layer's gain over the last is more than chance."""
        return self.best_layer is not None and self.gain_over_last[0] > 0

    def __getitem__(self, layer: LayerName) -> LayerScore:
        """Returns the score of a layer."""
        for row in self.layers:
            if row.layer == layer:
                return row
        raise KeyError(
            f"Layer {layer!r} was not swept: {[row.layer for row in self.layers]}."
        )

    def __str__(self) -> str:
        lines = [f"{self.probe}, {self.metric} of {self.protocol['test']} test samples"]
        for row in self.layers:
            # Chosen before the test samples were looked at: another may stand above it.
            mark = " <- best in validation" if row.layer == self.best_layer else ""
            lines.append(
                f"layer {row.layer!s:>3}  {row.score:.4f}  "
                f"[{row.low:.4f}, {row.high:.4f}]{mark}"
            )
        lines.append(f"guess      {self.baseline:.4f}")
        return "\n".join([*lines, self.summary()])

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows at the end of a cell

    def summary(self) -> str:
        """Returns the answer in a sentence."""
        if self.best_layer is None:
            return (
                f"No layer is called best: layer {self.candidate}, chosen on "
                f"validation samples, may be no better than a guess that never looks "
                f"at the image."
            )
        best, last = self[self.best_layer], self[self.last_layer]
        sentence = (
            f"Best layer, chosen on validation samples: {best.layer}, {self.metric} "
            f"{best.score:.4f}"
        )
        if best.layer == last.layer:
            return f"{sentence}, the last one."
        low, high = self.gain_over_last
        verdict = "more than chance" if low > 0 else "which may be chance"
        return (
            f"{sentence}; the last layer, {last.layer}, has {last.score:.4f}. The gain "
            f"is {low:+.4f} to {high:+.4f} (95 %): {verdict}."
        )

    # === The encoder ===
    def encoder_at_best(self) -> keras.Model:
        """Returns the encoder cut off at the best layer, weights copied.

        A PE encoder is truncated, with the norm that the sweep used; of another model
        with named or numbered outputs a model of that one output is made.

        Raises:
            ValueError: if no layer is called best, or it is layer 0.
        """
        if self.best_layer is None:
            raise ValueError(f"{self.summary()} Use more data, or name a layer.")
        if self.encoder is None:
            raise ValueError(
                f"This result was read from a file, without its encoder. Load it, and "
                f"call truncate({self.best_layer}, norm={self.protocol['norm']})."
            )
        if isinstance(self.encoder, PEVisionEncoder):
            if self.best_layer == 0:
                raise ValueError(
                    "The best layer is 0, the input of the first block: no encoder "
                    "is needed. Use the patches themselves."
                )
            assert isinstance(self.best_layer, int)
            return self.encoder.truncate(self.best_layer, norm=self.protocol["norm"])
        outputs = functional_outputs(self.encoder)
        if outputs is None:
            raise ValueError(
                f"{self.encoder.name} is no functional model, so it can't be cut at "
                f"its layer {self.best_layer!r}. Build it with that output alone."
            )
        return keras.Model(self.encoder.inputs, outputs[self.best_layer])

    # === Files ===
    def to_dict(self, resampled: bool = False) -> dict[str, Any]:
        """Returns everything but the encoder, ready for JSON.

        Args:
            resampled: whether scores of resampled test sets are among it, a thousand
                numbers a layer, so that `paired_gain` can compare the result later.
        """
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("encoder", "layers", "resampled")
        }
        if resampled:
            plain["resampled"] = self.resampled
        return {
            **plain,
            "best_layer": self.best_layer,
            "differs_from_last": self.differs_from_last,
            "layers": [dataclasses.asdict(row) for row in self.layers],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "SweepResult":
        """Returns a result read back from `to_json`, without its encoder."""
        fields = {field.name for field in dataclasses.fields(cls)}
        values = {name: content[name] for name in fields - {"encoder", "resampled"}}
        if content.get("resampled") is not None:
            values["resampled"] = np.array(content["resampled"], "float64")
        values["layers"] = tuple(
            LayerScore(
                **{
                    **row,
                    "seed_scores": tuple(row["seed_scores"]),
                    "settings": tuple(row["settings"]),
                }
            )
            for row in content["layers"]
        )
        for name in ("gain_over_baseline", "gain_over_last"):
            values[name] = tuple(values[name])
        return cls(**values)

    def to_json(self, path: str | Path, resampled: bool = False) -> None:
        """Writes `to_dict` to a file, whole or not at all."""
        content = self.to_dict(resampled)
        text = json.dumps(content, indent=2, allow_nan=False, default=plain_number)
        write_atomically(path, text + "\n")

    def to_csv(self, path: str | Path) -> None:
        """Writes one line a layer, whole or not at all."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["layer", "score", "low", "high", "validation_score"])
        for row in self.layers:
            writer.writerow(
                [row.layer, row.score, row.low, row.high, row.validation_score]
            )
        write_atomically(path, stream.getvalue())


def plain_number(value: Any) -> Any:
    """Returns NumPy's numbers, which settings may be, as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"{value!r} in a result has no form in JSON.")
