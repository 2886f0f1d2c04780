"""The model cards of the captioner and of its encoder, two names of one preset."""

from collections.abc import Sequence
from typing import Any

from keras_pe.evaluation.intervals import Score
from projects.emoji.language.experiment import CORE
from projects.emoji.language.question_sets import METRICS
from projects.emoji.layer_tables import points

ENCODER, CAPTIONER = "pe_lang_emoji_patch8_64", "pe_captioner_emoji_patch8_64"
LICENCE = """## Licence
The weights are released under Apache-2.0. The drawings they were trained on carry
CC-BY, CC-BY-SA and Apache licences: `projects/emoji/data/ATTRIBUTION.md` names each;
fonts and words are named in `projects/emoji/language/ATTRIBUTION.md`.
"""
TRAINING = """## Training
The vision encoder of `{core}` without its last block, behind it a
projector and a small language model whose words began as those of the core's text
tower. Three runs, each from the one before: 240,000 images of emoji of many vendors,
scenes composed of them, words and letters in Debian's fonts and titled clip art;
120,000 with words twice as often; {samples:,} with words whose letters are stretched,
bent and thinned as well. Batches of {batch} images of {size} px, up to {questions_each}
questions each; AdamW, peak learning rate of the last run {rate}, the encoder's
{encoder_rate} times that, seed {seed}. None of the test vendor's drawings, of the
fonts, words and concepts that are kept back was seen.
"""

CAPTIONER_CARD = """# {name}

A small vision language model: it names drawings and icons and reads short printed
words. It ships inside the package:
`keras_pe.language.VisionLanguageModel.from_preset("{name}")`
works offline, and `keras-pe ask picture.png "What is this?"`.

## What it can't do
**Photographs.** It has seen drawings, composed scenes and printed words of 64 px only.
It answers every question, also those that it can't know: yes or no is a guess, where
a thing lies nearly one, a concept that had no name in training gets another's name, and
a text is read if it is a word or two. Ask as it was trained to be asked:

{questions}

## Architecture
{parameters:,} parameters. Vision encoder (`{encoder}`): {layers} blocks of
width {width}, {heads} heads, patch {patch}, {encoder_parameters:,} parameters. A
projector that puts patches side by side in fours, {image_tokens} tokens an image; a
decoder of {decoder_layers} blocks of width {decoder_width}, vocabulary {vocabulary}.

Stored as float16, of whose fraction {bits} bits are kept; the results below are those
of these weights.

{training}
## Results
Right answers, per cent, with 95 % intervals over images; the answer has to be the same
word for word, unless another measure stands there. "About other images": the same
model, asked the same about another image of the set.

| set | question | answers | right | about other images |
|---|---|---|---|---|
{results}

Of {images} emoji of the unseen vendor it names {answers} exactly; zero-shot
classification by `{core}` {zero_shot}. One seed.

{licence}"""

# Of `scores.json`: a set, a kind of question, and how the card calls the set.
SHOWN = (
    ("test_vendor", "name, neither flag nor symbol (exact)", "unseen vendor"),
    ("test_vendor", "kind (exact)", "unseen vendor"),
    ("test_heldout", "name (exact)", "concepts held out"),
    ("test_heldout", "kind (exact)", "concepts held out"),
    ("scenes_test", "count (exact)", "scenes"),
    ("scenes_test", "colour (exact)", "scenes"),
    ("scenes_test", "position (exact)", "scenes"),
    ("scenes_test", "yesno (exact)", "scenes"),
    ("captions_test", "caption (cider)", "photographs, a title"),
    (
        "words_test_unseen_fonts_unseen_words",
        "reading, single words (exact)",
        "words and fonts held out",
    ),
    (
        "words_test_unseen_fonts_unseen_words",
        "reading (exact)",
        "words and fonts held out",
    ),
    (
        "words_test_unseen_fonts_unseen_words",
        "letter (exact)",
        "words and fonts held out",
    ),
)

ENCODER_CARD = """# {name}

A small vision encoder for language models: that of `{captioner}`,
whose files it shares. It ships inside the package:
`keras_pe.PELang.from_preset("{name}")` works offline.

## What it can't do
It says nothing by itself: it wants a language model behind it, which has to be trained
with it (`python -m recipes.align_language --encoder {name}`). It has
seen drawings, composed scenes and printed words of 64 px only; for photographs load a
released PE lang model.

## Architecture
{encoder_parameters:,} parameters: {layers} blocks of width {width}, {heads} heads,
patch {patch}, no pooling, no final norm, LayerScale. Stored as float16; of the fraction
{bits} bits are kept, after the results below were measured.

{training}
## Results
A fresh language model in front of the frozen encoder, trained in equal steps for each
layer. Alignments of different seeds: {seeds}, of which this is one; layers of the core
that were compared: {compared}. Per cent on test samples; brackets: 95 % intervals over
test samples, paired, in points.

{results}
{missing}
The protocol, its controls, and other alignments: `projects/emoji/language`. What the
whole captioner answers says its own card.

{licence}"""


def sweep_rows(contents: Sequence[dict[str, Any]], config: str) -> list[str]:
    """Returns what a fresh language model read of one encoder beside its core.

    Args:
        contents: results of sweeps: by kind of question and encoder. Kinds of which
            the encoder has no result are left out.
        config: the encoder's configuration there.
    """
    lines = [
        "| question | guess | core, best layer | core, last layer | this, last layer | "
        "gain over the core's best |",
        "|---|---|---|---|---|---|",
    ]
    for kind, configs in _kinds(contents, config):
        core, own = configs[CORE]["scores"], configs[config]
        last, best = max(own["scores"], key=int), max(core, key=core.__getitem__)
        gain = own["gain of the last layer over"][f"the core's layer {best}"]
        lines.append(
            f"| {kind} ({METRICS[kind]}) | {100 * own['guess']:.1f} | "
            f"{100 * core[best]:.1f} (layer {best}) | {100 * core[max(core)]:.1f} | "
            f"{100 * own['scores'][last]:.1f} | {points(gain)} |"
        )
    return lines


def _kinds(
    contents: Sequence[dict[str, Any]], config: str
) -> list[tuple[str, dict[str, Any]]]:
    found = [
        (kind, configs)
        for content in contents
        for kind, configs in content.items()
        if config in configs
    ]
    if not found:
        raise ValueError(f"No results of {config!r}: give those of a sweep of it.")
    return found


def _missing(measured: Sequence[str]) -> str:
    """Says of which kinds of question the encoder has no result."""
    left = [kind for kind in METRICS if kind not in measured]
    return f"\nNot measured of this encoder: {'; '.join(left)}.\n" if left else ""


def answer_rows(scores: dict[str, Any]) -> list[str]:
    """Returns the rows of the captioner's answers, Markdown.

    Args:
        scores: `scores.json` of `projects.emoji.language.evaluate`.
    """
    lines = []
    for name, kind, called in SHOWN:
        pair = scores["sets"][name][kind]
        right, blind = (Score(**pair[key]) for key in ("right", "blind"))
        lines.append(f"| {called} | {kind} | {right.count} | {right} | {blind} |")
    return lines


def captioner_facts(
    model: Any, core: str, run: dict[str, Any], bits: int, questions: Sequence[str]
) -> dict[str, Any]:
    """Returns what both cards say of the model and its training, by field.

    Args:
        model: the `VisionLanguageModel`.
        core: the dual encoder that the first of its runs began with.
        run: `config.json` of the last run.
        bits: of a weight's fraction that are kept.
        questions: that it was trained for.
    """
    encoder, decoder = model.encoder, model.decoder
    parts = (encoder, model.projector, decoder)
    (stage,) = run["stages"]
    training = TRAINING.format(
        core=core,
        samples=stage["samples"],
        batch=run["batch_size"],
        size=stage["image_size"],
        questions_each=run["questions"],
        rate=run["learning_rate"],
        encoder_rate=run["encoder_rate"],
        seed=run["seed"],
    )
    return {
        "core": core,
        "captioner": CAPTIONER,
        "encoder": ENCODER,
        "parameters": sum(part.count_params() for part in parts),
        "encoder_parameters": encoder.count_params(),
        "layers": encoder.num_layers,
        "width": encoder.hidden_dim,
        "heads": encoder.num_heads,
        "patch": encoder.patch_size,
        "image_tokens": model.prompt.image_tokens,
        "decoder_layers": decoder.num_layers,
        "decoder_width": decoder.hidden_dim,
        "vocabulary": decoder.vocabulary_size,
        "bits": bits,
        "questions": "\n".join(f"- {question}" for question in questions),
        "training": training,
        "licence": LICENCE,
    }


def captioner_card(facts: dict[str, Any], scores: dict[str, Any]) -> str:
    """Returns the card of the captioner.

    Args:
        facts: from `captioner_facts`.
        scores: `scores.json` of `projects.emoji.language.evaluate`, of this preset.
    """
    found = scores["names"]
    return CAPTIONER_CARD.format(
        **facts,
        name=CAPTIONER,
        results="\n".join(answer_rows(scores)),
        images=found["images"],
        answers=f"{100 * found['answers']:.1f} %",
        zero_shot=f"{100 * found['zero-shot']:.1f} %",
    )


def encoder_card(
    facts: dict[str, Any], contents: Sequence[dict[str, Any]], config: str
) -> str:
    """Returns the card of the captioner's encoder.

    Args:
        facts: from `captioner_facts`.
        contents: as of `sweep_rows`.
        config: likewise.
    """
    kinds = _kinds(contents, config)
    layers = sorted({layer for _, found in kinds for layer in found[CORE]["scores"]})
    return ENCODER_CARD.format(
        **facts,
        name=ENCODER,
        seeds=min(len(found[config]["seeds"]) for _, found in kinds),
        compared=", ".join(layers),
        results="\n".join(sweep_rows(contents, config)),
        missing=_missing([kind for kind, _ in kinds]),
    )
