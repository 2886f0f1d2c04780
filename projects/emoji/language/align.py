"""The bundled encoder, aligned with a small language model on drawings, scenes, text.

Run:      python -m projects.emoji.language.align --config warmup \\
              --data data/language --output runs/language/warmup-0
          python -m projects.emoji.language.align --config aligned \\
              --start runs/language/warmup-0/preset \\
              --data data/language --output runs/language/aligned-0
Go on:    the same with --resume.
Expect:   what `recipes.align_language` leaves.

The configurations are the paper's ablation of section 5.2 in small, and the control
whose encoder stays as it is. `experiment.py` compares their layers.
"""

import argparse
import dataclasses
from pathlib import Path

from keras_pe.training.run.align_language import align_language, check_alignment
from keras_pe.training.run.language_config import LanguageConfig
from keras_pe.training.run.options import (
    add_run_arguments,
    language_settings,
    recipe_parser,
)
from keras_pe.training.run.question_data import QuestionData
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.training_config import stages_of
from projects.emoji.language.data import VARIED
from recipes.language_data.words import QUESTIONS

SETS = f"train,{VARIED},scenes_train,words_train,words_letters,captions_train"
FURTHER_SETS = {"reader": ",words_reshaped"}  # of a configuration
VALIDATION = "{validation,scenes_validation,words_validation}-*.tar"

# All patches reach the language model, four side by side in one token. It spells what
# it reads: of the words that are kept back for tests two in five have a token that no
# training had.
ALIGNED = LanguageConfig(
    encoder="pe_core_emoji_patch8_64",
    stages=stages_of(240_000, (64,), (1,)),
    batch_size=48,
    learning_rate=1.5e-3,
    encoder_rate=0.5,
    warmup_steps=200,
    beta_2=0.98,
    pooling=2,
    merge="shuffle",
    projector_norm=True,
    spell_answers=True,
    spelled_questions=QUESTIONS,
    decoder_dim=192,
    decoder_layers=4,
    core_words=True,
    row_length=192,
    questions=2,  # few, of more images: it is these that a step takes its time for
    questions_apart=True,
    repeats=("captions_train-*:2", "varied_train-*:2"),
)
WARMUP = dataclasses.replace(
    ALIGNED, stages=stages_of(14_400, (64,), (1,)), train_encoder=False
)

# What goes on from an aligned run, encoder and all (--encoder, --start), with more of
# what takes longest: to read.
CAPTIONER = dataclasses.replace(
    ALIGNED,
    layers=5,  # all of the aligned encoder's
    stages=stages_of(120_000, (64,), (1,)),
    learning_rate=1e-3,
    repeats=("captions_train-*:2", "words_train-*:2", "varied_train-*:2"),
)
# And from that: words in training fonts that look like others, for fonts are what it
# fails at: 43 % of unseen words in fonts of training were read, and 30 in others.
READER = dataclasses.replace(
    CAPTIONER,
    stages=stages_of(480_000, (64,), (1,)),
    repeats=("captions_train-*:2", "words_reshaped-*:2", "varied_train-*:2"),
)

CONFIGS: dict[str, LanguageConfig] = {
    "warmup": WARMUP,
    "aligned": ALIGNED,
    "captioner": CAPTIONER,
    "reader": READER,
    # Controls and ablations; each has a warm-up that fits it (`ablations.py`).
    "frozen": dataclasses.replace(ALIGNED, train_encoder=False),
    "all-layers": dataclasses.replace(ALIGNED, layers=6),
    "four-layers": dataclasses.replace(ALIGNED, layers=4),
    "plain-blocks": dataclasses.replace(ALIGNED, layer_scale=None, drop_path=0.0),
    "linear-projector": dataclasses.replace(ALIGNED, projector_layers=1),
    "frozen-decoder": dataclasses.replace(ALIGNED, train_decoder=False),
    "small-decoder": dataclasses.replace(ALIGNED, decoder_dim=96, decoder_layers=2),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("projects.emoji.language.align", __doc__, CONFIGS)
    parser.add_argument("--encoder", metavar="PRESET", help="what is aligned")
    parser.add_argument(
        "--start", metavar="PRESET", help="whose projector and decoder it starts from"
    )
    group = parser.add_argument_group("data")
    group.add_argument(
        "--data", metavar="FOLDER", help="output of projects.emoji.language.data"
    )
    group.add_argument(
        "--workers", type=int, default=0, help="processes that prepare batches"
    )
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def check_questions(options: argparse.Namespace) -> None:
    """Refuses a folder without questions.

    Raises:
        FileNotFoundError: saying how they are made.
    """
    if options.data is None or not any(Path(options.data).glob(f"{VARIED}-*.tar")):
        raise FileNotFoundError(
            f"--data {options.data}: there are no questions ({VARIED}-*.tar). Make "
            f"them with python -m projects.emoji.language.data --output FOLDER."
        )


def question_data(options: argparse.Namespace) -> QuestionData:
    """Returns the questions of a command line."""
    folder = Path(options.data)
    sets = f"{{{SETS}{FURTHER_SETS.get(options.config, '')}}}-*.tar"
    return QuestionData(str(folder / sets), str(folder / VALIDATION), options.workers)


def main() -> None:
    """Aligns."""
    options = parse()

    def configured() -> LanguageConfig:
        return language_settings(CONFIGS[options.config], options)

    run_recipe(
        options,
        configured,
        align_language,
        check_questions,
        question_data,
        check_alignment,
    )


if __name__ == "__main__":
    main()
