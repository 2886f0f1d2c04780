"""Language alignment: an encoder that a language model can read.

Run:      python -m recipes.align_language --config smoke \\
              --data 'questions/train-*.tar' --output runs/language
Go on:    the same with --resume.
Look:     --plan --devices 64 prints what a run needs, without starting it.
Expect:   checkpoints, steps.csv, TensorBoard events, curves.png and, at the end,
          model.weights.h5 and a preset: PELang.from_preset loads the encoder,
          keras_pe.language.VisionLanguageModel.from_preset all three.

The last blocks of the encoder are cut; its patches go through a projector to a causal
language model, which is taught to answer questions about the images. Then the language
model can be thrown away: what is wanted is the encoder. The data are tar shards of
images with questions (`recipes.language_data` makes some, and converts LLaVA's and the
Cauldron's).

In two runs, as the paper has it:

    --phase warmup   the projector alone is trained, and a decoder that is new
    --phase align --start runs/warmup/preset
                     encoder, projector and decoder

Several questions of an image make one document, and documents are packed into rows of
--set row_length=512 tokens. With --validation-data questions of other shards are asked
while it trains, and counted by their kind.

A decoder of KerasHub's is asked in the template that its family's chat models were
taught: --decoder hub:llama3.2_instruct_1b. If it is trained it is left in the folder
`decoder`, else it is as it was: who loads the preset gives it.

What is lost: an aligned encoder has no zero-shot head.
"""

import argparse
import dataclasses

from keras_pe.training.run.align_language import align_language, check_alignment
from keras_pe.training.run.language_config import LanguageConfig
from keras_pe.training.run.options import (
    add_run_arguments,
    add_shard_arguments,
    language_settings,
    recipe_parser,
)
from keras_pe.training.run.question_data import QuestionData
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.training_config import stages_of
from recipes.plan import add_plan_group, plans_instead

# The paper prints neither rate nor batch of its alignment. These are upstream's of PLM,
# whose first two stages it is said to follow: a warm-up of 8,000 x 512, and 70 M
# samples at 2,048.
PAPER_G14 = LanguageConfig(
    encoder="pe_core_gigantic_patch14_448",
    layers=47,
    decoder="hub:llama3.2_instruct_3b",
    stages=stages_of(70_000_000 // 2048 * 2048, (448,), (1,)),
    beta_2=0.95,
    row_length=2560,
    remat=True,
    precision="mixed_bfloat16",
    sharding="parameters",
)


def warmup_of(config: LanguageConfig) -> LanguageConfig:
    """Returns the first phase: the projector alone, at a higher rate, shorter."""
    return dataclasses.replace(
        config,
        stages=stages_of(8000 * 512, (config.stages[0].image_size,), (1,)),
        batch_size=512,
        learning_rate=1e-4,
        warmup_steps=20,
        train_encoder=False,
        train_decoder=False,
    )


PAPER_L14 = dataclasses.replace(
    PAPER_G14, encoder="pe_core_large_patch14_336", layers=23
)

# Minutes on one core, with any shards of questions; for trying things out.
SMOKE = LanguageConfig(
    encoder="pe_core_emoji_patch8_64",
    stages=stages_of(1024, (64,), (1,)),
    batch_size=32,
    learning_rate=1e-3,
    encoder_rate=0.1,
    warmup_steps=4,
    pooling=2,
    projector_norm=True,
    decoder_dim=128,
    decoder_layers=2,
    row_length=256,
    questions=4,
)

CONFIGS: dict[str, LanguageConfig] = {
    "paper-g14": PAPER_G14,
    "paper-g14-warmup": warmup_of(PAPER_G14),
    "paper-l14": PAPER_L14,
    "paper-l14-warmup": warmup_of(PAPER_L14),
    "smoke": SMOKE,
    # The same with the decoder that the project's own experiments have.
    "small": dataclasses.replace(
        SMOKE,
        stages=stages_of(200_000, (64,), (1,)),
        batch_size=64,
        warmup_steps=100,
        decoder_dim=256,
        decoder_layers=6,
    ),
}


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("recipes.align_language", __doc__, CONFIGS)
    parser.add_argument(
        "--phase", choices=("warmup", "align"), help="what is trained, see above"
    )
    parser.add_argument(
        "--encoder", metavar="PRESET", help="what is aligned, of the configuration"
    )
    parser.add_argument(
        "--decoder",
        metavar="NAME",
        help="small, gguf:FILE, or hub: and a preset of KerasHub's or a folder of one",
    )
    parser.add_argument(
        "--start", metavar="PRESET", help="whose projector and decoder it starts from"
    )
    add_shard_arguments(parser)
    add_plan_group(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def question_data(options: argparse.Namespace) -> QuestionData:
    """Returns the questions of a command line."""
    return QuestionData(
        options.data, options.validation_data, options.workers, options.start_timeout
    )


def main() -> None:
    """Aligns."""
    options = parse()

    def configured() -> LanguageConfig:
        return language_settings(CONFIGS[options.config], options)

    if plans_instead(options, configured):
        return
    run_recipe(
        options,
        configured,
        align_language,
        make_data=question_data,
        check=check_alignment,
    )


if __name__ == "__main__":
    main()
