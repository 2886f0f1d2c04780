"""Which layer can a fresh language model read, before and after the alignment?

Run:      for seed in 0 1 2; do
              python -m projects.emoji.language.align --config warmup --seed $seed \\
                  --data data/language --output runs/language/warmup-$seed
              python -m projects.emoji.language.align --config aligned --seed $seed \\
                  --start runs/language/warmup-$seed/preset \\
                  --data data/language --output runs/language/aligned-$seed
          done
          python -m projects.emoji.language.experiment --data data/language \\
              --runs runs/language --output runs/language/sweeps
Expect:   a JSON an encoder and seed, and then `language.md` and `language.json`: scores
          of layers by kind of question, and paired gains. Started again, it goes on
          with the sweeps that are missing.

Encoders are frozen. For each layer, a projector and a language model that has never
seen one are trained on the same questions in equal steps, and answer those of the test
sets: of a vendor, of concepts, of fonts and of words that no training had. Every
alignment is compared with the core encoder that it began with, seed by seed, on the
same test samples; where a layer of the core has to be named, it is the one with the
best test score: the choice that is worst for us.
"""

import argparse
import dataclasses
import functools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe import PECore, PELang, PETokenizer, PEVisionEncoder
from keras_pe.files import write_atomically
from keras_pe.language import QuestionPrompt, SmallDecoder
from keras_pe.probing import (
    LanguageLayers,
    LanguageProbe,
    SweepResult,
    layer_for_llm,
    paired_gain,
)
from projects.emoji.finished_runs import finished_runs
from projects.emoji.language.question_sets import (
    HELDOUT,
    KINDS,
    METRICS,
    questions_of_sets,
)
from projects.emoji.layer_tables import Row, layer_table, points
from recipes.language_data.words import QUESTIONS

CORE, RANDOM = "core", "random"


@dataclasses.dataclass(frozen=True)
class Task:
    """What heads are trained on, for how long, and asked.

    Attributes:
        kinds: of questions.
        training: samples of each set; so are the others.
        steps: of each training.
        rates: learning rates, of which validation chooses.
        file: how names of its files begin.
        label: what its kind is called, if it is one alone.
    """

    kinds: tuple[str, ...]
    training: Mapping[str, int]
    validation: Mapping[str, int]
    test: Mapping[str, int]
    steps: int
    rates: tuple[float, ...]
    file: str = ""
    label: str = ""


MIXED = Task(
    KINDS,
    {
        "varied_train": 9000,
        "words_train": 10_000,
        "words_letters": 4000,
        "scenes_train": 9000,
    },
    {"validation": 320, "words_validation": 500, "scenes_validation": 500},
    {
        "test_vendor": 1400,
        "words_test_unseen_fonts_unseen_words": 1000,
        "scenes_test": 1200,
        "test_heldout": 400,
    },
    steps=500,
    rates=(1e-3, 3e-3),
)
# Among other questions a fresh language model learns hardly a name in so few steps.
NAMES = Task(
    ("name",),
    {"varied_train": 24_000},
    {"validation": 324},
    {"test_vendor": 1400},
    steps=1000,
    rates=(1e-3, 2e-3),
    file="names-",
    label="name, of heads for names alone",
)
TASKS = (MIXED, NAMES)
LAYERS = {CORE: (5, 6), RANDOM: (5,)}  # and of all others:
ALIGNED_LAYERS = (4, 5)

Sweeps = dict[str, dict[int, LanguageLayers]]  # by configuration and seed


def spelled_prompt(image_tokens: int) -> QuestionPrompt:
    """Returns how the fresh language models are asked: they spell what they read."""
    return QuestionPrompt(PETokenizer(64, 6000), image_tokens, True, QUESTIONS)


def fresh_decoder(vectors: np.ndarray) -> SmallDecoder:
    """Returns a language model that has seen no image, whose words are the core's.

    Without its words a few hundred steps teach it no name, of whichever layer.
    """
    words, channels = vectors.shape
    decoder = SmallDecoder(words, channels, num_layers=3, max_length=256)
    decoder.token_embedding.set_weights([vectors])
    return decoder


def language_probe(task: Task, preset: str) -> LanguageProbe:
    """Returns the probe of a task's sweeps."""
    text = PECore.from_preset(preset).text_encoder
    vectors = keras.ops.convert_to_numpy(text.token_embedding.embeddings)
    return LanguageProbe(
        functools.partial(fresh_decoder, vectors),
        spelled_prompt,
        pooling=2,
        merge="shuffle",
        steps=task.steps,
        learning_rates=task.rates,
        max_tokens=28,
        metric={kind: METRICS[kind] for kind in (*task.kinds, HELDOUT)},
    )


# === Encoders ===
def random_encoder(preset: str, seed: int) -> PEVisionEncoder:
    """Returns an encoder of the same shape with first weights."""
    config = PEVisionEncoder.from_preset(preset).get_config()
    keras.utils.set_random_seed(seed)
    return PEVisionEncoder.from_config(config)


def find_encoders(
    runs: Path, preset: str
) -> dict[str, dict[int, Callable[[], PEVisionEncoder]]]:
    """Returns what makes the encoders: the core, a random one, each finished alignment.

    Raises:
        ValueError: if there is no finished alignment.
    """
    found: dict[str, dict[int, Callable[[], PEVisionEncoder]]] = {
        config: {
            seed: functools.partial(PELang.from_preset, path)
            for seed, path in seeded.items()
        }
        for config, seeded in finished_runs(runs, "aligned-0").items()
        if config not in ("warmup", "frozen")  # their encoder is the core
    }
    if not found:
        raise ValueError(f"{runs}: no run there has changed its encoder.")
    seeds = sorted({seed for seeded in found.values() for seed in seeded})
    core = functools.partial(PEVisionEncoder.from_preset, preset)
    chance = functools.partial(random_encoder, preset, seeds[0])
    return {CORE: dict.fromkeys(seeds, core), RANDOM: {seeds[0]: chance}, **found}


# === Sweeps ===
def swept_layers(config: str, encoder: PEVisionEncoder) -> Sequence[int]:
    """Returns the layers that the experiment compares."""
    return LAYERS.get(config, ALIGNED_LAYERS)


def run_sweeps(
    output: Path,
    data: Path,
    encoders: dict[str, dict[int, Callable[[], PEVisionEncoder]]],
    task: Task,
    preset: str,
    layers: Callable[[str, PEVisionEncoder], Sequence[int]] = swept_layers,
) -> Sweeps:
    """Returns a task's sweeps of all encoders, and runs those that are missing.

    Args:
        output: where they are kept.
        data: the questions.
        encoders: what makes them, by configuration and seed.
        task: what heads are trained on.
        preset: whose words fresh language models begin with.
        layers: which are swept, of a configuration and its encoder.
    """
    sets: list[Any] = []
    sweeps: Sweeps = {}
    for config, seeded in encoders.items():
        for seed, make in seeded.items():
            path = output / f"{task.file}{config}-{seed}.json"
            if not path.exists():
                sets = sets or [
                    questions_of_sets(data, counts, kinds=task.kinds)
                    for counts in (task.training, task.validation, task.test)
                ]
                encoder = make()
                found = layer_for_llm(
                    encoder,
                    data=sets,
                    layers=layers(config, encoder),
                    probe=language_probe(task, preset),
                    seeds=(seed,),
                )
                found.to_json(path, resampled=True)
                print(f"{task.file}{config}, seed {seed}\n{found}\n", flush=True)
            content = json.loads(path.read_text())
            sweeps.setdefault(config, {})[seed] = LanguageLayers.from_dict(content)
    return sweeps


# === Comparisons ===
def of_kinds(result: LanguageLayers, label: str) -> dict[str, SweepResult]:
    """Returns a sweep's results by kind; if there is one alone, by its label."""
    return result.kinds or {label: result.overall}


def mean_scores(results: Sequence[SweepResult]) -> dict[Any, float]:
    """Returns the score of each layer, the mean over seeds."""
    return {
        row.layer: float(np.mean([each[row.layer].score for each in results]))
        for row in results[0].layers
    }


def compare(sweeps: Sweeps, label: str = "") -> dict[str, Any]:
    """Returns, by kind and configuration, scores and gains of the last layer.

    Args:
        sweeps: of a task.
        label: of its kind, if it is one alone.
    """
    content: dict[str, Any] = {}
    kinds = {
        config: {seed: of_kinds(result, label) for seed, result in seeded.items()}
        for config, seeded in sweeps.items()
    }
    core = kinds[CORE]
    for kind in next(iter(core.values())):
        before = mean_scores([of[kind] for of in core.values()])
        strongest = max(before, key=lambda layer: before[layer])
        content[kind] = {}
        for config, results in kinds.items():
            scores = mean_scores([of[kind] for of in results.values()])
            guess = [of[kind].baseline for of in results.values()]
            row: dict[str, Any] = {
                "seeds": sorted(results),
                "scores": scores,
                "guess": float(np.mean(guess)),
            }
            if config != CORE:
                last = max(scores)
                mine = [of[kind] for of in results.values()]
                # The core is one encoder: where heads of a seed were not trained on
                # it, those of its first seed are compared with.
                first = core[min(core)]
                its = [core.get(seed, first)[kind] for seed in results]
                inner = [layer for layer in scores if layer != last]
                gains = {f"the core's layer {strongest}": (its, strongest)}
                if inner:
                    own = max(inner, key=lambda layer: scores[layer])
                    gains[f"its own layer {own}"] = (mine, own)
                row["gain of the last layer over"] = {
                    name: vars(paired_gain(mine, other, last, layer))
                    for name, (other, layer) in gains.items()
                }
            content[kind][config] = row
    return content


def table(content: dict[str, Any]) -> str:
    """Returns the comparisons as Markdown, per cent and points."""
    further = ("guess", "last over the core's best", "over its own best inner")
    return (
        "\n\n".join(
            layer_table(
                f"{kind} ({METRICS[kind]})",
                list(configs[CORE]["scores"]),
                further,
                [_row(config, row) for config, row in configs.items()],
            )
            for kind, configs in content.items()
        )
        + "\n"
    )


def _row(config: str, found: dict[str, Any]) -> Row:
    """Returns an encoder's row of the table."""
    gains = list(found.get("gain of the last layer over", {}).values())
    over = [*(points(gain) for gain in gains), "", ""][:2]
    cells = [f"{100 * found['guess']:.1f}", *over]
    scores = found["scores"]
    return config, len(found["seeds"]), scores, max(scores.values()), cells


def main() -> None:
    """Runs the sweeps that are missing, then compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="pe_core_emoji_patch8_64")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    encoders = find_encoders(options.runs, options.preset)
    content: dict[str, Any] = {}
    for task in TASKS:
        sweeps = run_sweeps(
            options.output, options.data, encoders, task, options.preset
        )
        content.update(compare(sweeps, task.label))
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(options.output / "language.json", text + "\n")
    write_atomically(options.output / "language.md", table(content))


if __name__ == "__main__":
    main()
