"""Which layer a language model should read: the question that a user has."""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import keras

from keras_pe.arrays import check_sizes
from keras_pe.files import write_atomically
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.language_data import QuestionSet, question_targets
from keras_pe.probing.language_probe import LanguageProbe
from keras_pe.probing.layer_outputs import LayerName, LayerOutputs
from keras_pe.probing.sweep import default_converter
from keras_pe.probing.sweep_checks import check_seeds
from keras_pe.probing.sweep_layers import ProbedLayers, SweepSets, probed_layers
from keras_pe.probing.sweep_result import SweepResult, plain_number


@dataclasses.dataclass(frozen=True)
class LanguageLayers:
    """Which layer a language model should read, and how sure that is.

    Attributes:
        overall: of all questions: curve, best layer, intervals.
        kinds: the same of each kind of question, if there are several; scores of the
            same answers, nothing is trained for them.
        blind: score of a head that learned and answered without the right images; None
            if it was not asked for.
        constant: score of the most frequent answer to each question.
        shuffled: score of the best layer's answers to questions about other images.
        unparsable: share of test answers of each layer that could not be read.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=1, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (20, 16, 16, 3))
        >>> asked = [(n, "Is it bright?", "yes" if n % 2 else "no") for n in range(20)]
        >>> small = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2}
        >>> probe = LanguageProbe(small, steps=1, batch_size=8, learning_rates=[1e-3])
        >>> found = layer_for_llm(encoder, data=QuestionSet(images, asked),
        ...     probe=probe, seeds=(0,), layers=[1], progress=False)
        >>> isinstance(found, LanguageLayers), list(found.unparsable)
        (True, [1])
    """

    overall: SweepResult
    kinds: dict[str, SweepResult]
    blind: float | None
    constant: float
    shuffled: float
    unparsable: dict[LayerName, float]

    @property
    def best_layer(self) -> LayerName | None:
        """The layer to read; None if even the best may be no more than a guess."""
        return self.overall.best_layer

    def encoder_at_best(self) -> keras.Model:
        """Returns the encoder cut off at the best layer, weights copied."""
        return self.overall.encoder_at_best()

    def recommendation(self) -> str:
        """Returns the answer in a sentence."""
        best, result = self.best_layer, self.overall
        if best is None:
            return (
                f"No layer is called best: what is read of layer {result.candidate}, "
                f"chosen on validation samples, may be no better than a guess that "
                f"never looks at the image. Give more questions or steps."
            )
        last = result.last_layer
        if best == last:
            return f"Read layer {best}, the last one."
        if result.differs_from_last:
            low, high = result.gain_over_last
            return (
                f"Read layer {best}, not the last one ({last}): it answers {low:.3f} "
                f"to {high:.3f} better (95 %)."
            )
        return (
            f"Read layer {best}, or the last one ({last}): that {best} is better may "
            f"be chance."
        )

    def __str__(self) -> str:
        names = list(self.kinds)
        result = self.overall
        lines = [
            f"{result.metric} of {result.protocol['test']} test images, "
            f"{len(result.protocol['seeds'])} seeds"
        ]
        widths = [max(6, len(name)) for name in names]
        titles = [f"{n:>{w}}" for n, w in zip(names, widths, strict=True)]
        lines.append("  ".join([f"{'layer':>8}  {'all':<24}", *titles]).rstrip())
        for row in result.layers:
            scores = f"{row.score:.4f} [{row.low:.4f}, {row.high:.4f}]"
            of_kinds = [
                f"{self.kinds[name][row.layer].score:>{width}.4f}"
                for name, width in zip(names, widths, strict=True)
            ]
            mark = "<- best in validation" if row.layer == self.best_layer else ""
            cells = [f"{row.layer!s:>8}  {scores:<24}", *of_kinds, mark]
            lines.append("  ".join(cells).rstrip())
        guesses = {
            "blind": self.blind,
            "constant": self.constant,
            "shuffled": self.shuffled,
        }
        for name, score in guesses.items():
            if score is not None:
                lines.append(f"{name:>8}  {score:.4f}")
        most = max(self.unparsable.values())
        if most > 0:
            lines.append(f"Answers that could not be read: up to {most:.1%}.")
        return "\n".join([*lines, self.recommendation()])

    def __repr__(self) -> str:
        return str(self)  # what a notebook shows at the end of a cell

    # === Files ===
    def to_dict(self, resampled: bool = False) -> dict[str, Any]:
        """Returns everything but the encoder, ready for JSON.

        Args:
            resampled: as of `SweepResult.to_dict`, for `paired_gain`.
        """
        return {
            "overall": self.overall.to_dict(resampled),
            "kinds": {k: each.to_dict(resampled) for k, each in self.kinds.items()},
            "blind": self.blind,
            "constant": self.constant,
            "shuffled": self.shuffled,
            # Names of layers may be numbers, which keys of JSON are not.
            "unparsable": [list(pair) for pair in self.unparsable.items()],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> "LanguageLayers":
        """Returns an answer read back from `to_json`, without its encoder."""
        kinds = {k: SweepResult.from_dict(x) for k, x in content["kinds"].items()}
        return cls(
            SweepResult.from_dict(content["overall"]),
            kinds,
            content["blind"],
            content["constant"],
            content["shuffled"],
            dict(content["unparsable"]),
        )

    def to_json(self, path: str | Path, resampled: bool = False) -> None:
        """Writes `to_dict` to a file, whole or not at all."""
        text = json.dumps(
            self.to_dict(resampled), indent=2, allow_nan=False, default=plain_number
        )
        write_atomically(path, text + "\n")


def layer_for_llm(
    encoder: keras.Model,
    decoder: Any = None,
    *,
    data: QuestionSet | Sequence[QuestionSet],
    layers: Literal["all"] | Sequence[LayerName] = "all",
    probe: LanguageProbe | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    norm: bool = False,
    batch_size: int = 32,
    image_converter: PEImageConverter | None = None,
    prefix_tokens: int = 0,
    bootstrap_repeats: int = 1000,
    store_directory: str | Path | None = None,
    progress: bool = True,
) -> LanguageLayers:
    """Says which layer of an encoder a language model should read.

    The encoder is frozen and sees every image once. For each layer and seed a projector
    and a language model learn the training questions from the start, in equal steps;
    validation images choose the learning rate and the layer, and scores are of test
    images. Beside the curve stands what the same head learns without the right images.

    Args:
        encoder: a `PEVisionEncoder` or `PECore`, or any Keras model that returns a list
            or a dictionary of layers, such as `intermediate_model` makes.
        decoder: of `LanguageProbe`: None for a small one.
        data: sets of questions for training, validation and test, of different images;
            or one set, of whose images a fifth each is kept back for the other two.
        layers: "all", or some: k is the output of block k, 0 the input of the first.
        probe: a `LanguageProbe` with other settings; it has its decoder.
        seeds: of first weights and the order of questions; scores are averages.
        norm: whether the final norm is applied to each layer.
        batch_size: images a forward pass of the encoder.
        image_converter: prepares images that are files or uint8; None makes one for
            a PE encoder's own size.
        prefix_tokens: tokens before the patches, where the model is none of PE's.
        bootstrap_repeats: resampled test sets for the intervals.
        store_directory: an empty directory that keeps the features; None for one that
            goes at the end.
        progress: whether progress bars are shown.

    Returns:
        The curve, the best layer and how sure that is, of all questions and by kind.

    Raises:
        ValueError: if the data or an option make no sense.
        TypeError: if the data are no sets of questions, or the probe is another one.
        NonFiniteError: if a layer gives NaN or infinity, or a training ends in it.

    Source: Perception Encoder, section 3 and appendix B.2.

    Example:
        >>> import numpy as np
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=1, num_heads=2, intermediate_dim=32)
        >>> images = np.random.default_rng(0).uniform(-1, 1, (20, 16, 16, 3))
        >>> asked = [(n, "Is it bright?", "yes" if images[n].mean() > 0 else "no")
        ...     for n in range(20)]
        >>> small = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2}
        >>> probe = LanguageProbe(small, steps=4, batch_size=8, learning_rates=[1e-3])
        >>> result = layer_for_llm(encoder, data=QuestionSet(images, asked),
        ...     probe=probe, seeds=(0,), progress=False)
        >>> [row.layer for row in result.overall.layers]
        [0, 1]
    """
    if probe is not None and decoder is not None:
        raise ValueError("Give the decoder to the probe: LanguageProbe(decoder, ...).")
    probe = LanguageProbe(decoder) if probe is None else probe
    if not isinstance(probe, LanguageProbe):
        raise TypeError(
            f"probe must be a LanguageProbe or None, got {probe!r:.80} "
            f"({type(probe).__name__})."
        )
    check_seeds(seeds)
    check_sizes(batch_size=batch_size, bootstrap_repeats=bootstrap_repeats)
    given = _listed(data)
    sets, kinds = question_sets(given)
    # Before the images are read. Of one set, all may be drawn for the test.
    for each in given[-2:]:
        probe.check_scored(each.questions)
    outputs = LayerOutputs(encoder, layers, norm, prefix_tokens)
    found = probed_layers(
        outputs,
        probe,
        "map",
        sets,
        seeds,
        batch_size,
        image_converter or default_converter(outputs),
        store_directory,
        progress,
    )
    return language_layers(found, kinds, bootstrap_repeats)


def _listed(data: Any) -> list[Any]:
    several = isinstance(data, Iterable) and not isinstance(data, str | bytes)
    return list(data) if several else [data]


def question_sets(data: Any) -> tuple[SweepSets, list[str]]:
    """Returns the sets of a sweep, one or three, and the kinds of their questions.

    Raises:
        TypeError: if they are no sets of questions.
    """
    given = _listed(data)
    if len(given) not in (1, 3) or not all(isinstance(x, QuestionSet) for x in given):
        raise TypeError(
            f"data must be a QuestionSet, or three of them for training, validation "
            f"and test, got {[type(x).__name__ for x in given]}."
        )
    targets, kinds = question_targets(*given), {k for x in given for k in x.kinds}
    images = [each.images for each in given]
    pairs = list(zip(images, targets, strict=True))
    if len(pairs) == 1:
        return SweepSets(pairs[0], None, None, 0.2, 0.2), sorted(kinds)
    train, validation, test = pairs
    return SweepSets(train, test, validation, 0.2, 0.2), sorted(kinds)


def language_layers(
    found: ProbedLayers, kinds: Sequence[str], repeats: int
) -> LanguageLayers:
    """Returns the answer of a sweep with a `LanguageProbe`, of all and by kind."""
    probe = found.probe
    assert isinstance(probe, LanguageProbe)
    every = [2 * place + 1 for place in range(len(kinds))]
    by_kind = {}
    for place, kind in enumerate(kinds if len(kinds) > 1 else ()):
        one = dataclasses.replace(found, probe=probe.of_kind(place))
        if found.outcomes[0].statistics[:, every[place]].any():
            by_kind[kind or "(none)"] = _asked(one, every[place : place + 1]).result(
                repeats
            )
    scores = found.guess_scores()
    unparsable = {
        name: float(x.statistics[:, -1].sum() / x.statistics[:, every].sum())
        for name, x in zip(found.names, found.outcomes, strict=True)
    }
    return LanguageLayers(
        _asked(found, every).result(repeats),
        by_kind,
        scores.get("blind"),
        scores["constant"],
        scores["shuffled"],
        unparsable,
    )


def _asked(found: ProbedLayers, columns: Any) -> ProbedLayers:
    """Leaves out test images without questions, as these columns count them.

    They would say nothing, but look like samples that all score 0.
    """
    counts = (
        found.outcomes[0]
        .statistics[:, columns]
        .reshape(len(found.guesses["constant"]), -1)
    )
    rows = counts.sum(axis=1) > 0
    return dataclasses.replace(
        found,
        outcomes=[
            dataclasses.replace(outcome, statistics=outcome.statistics[rows])
            for outcome in found.outcomes
        ],
        guesses={name: guess[rows] for name, guess in found.guesses.items()},
        protocol={**found.protocol, "test": int(rows.sum())},
    )
