"""Fine-tune a dual encoder on your own images and captions.

Run:      python -m recipes.finetune --pairs pairs.csv --validation-pairs more.csv \\
              --initial-weights pe_core_emoji_patch8_64 --output runs/mine
Cheaper:  --lora 8 trains updates of low rank, --freeze vision the text tower alone,
          --layer-decay 0.8 early layers by less.
Forget    --remember shards and --zero-shot folder score what the model could do before,
little:   and --wise auto takes the weights between old and new that lose little of it.
Go on:    the same with --resume, after any stop.
Expect:   checkpoints, steps.csv, scores.csv, curves.png and a preset, LoRA merged;
          with pairs to score also wise_ft.md, wise_ft.png and forgotten.md.

Pairs are a table (.csv, .tsv, .jsonl, .json, .parquet) with a column of image paths and
one of captions, a folder with a metadata.jsonl, COCO's captions with --images FOLDER,
or the tar shards of recipes.pretrain. Paths start from the table's folder.
"""

import argparse

from keras_pe.data.image_text import Source
from keras_pe.data.pair_table import PairTable, is_table, open_pairs
from keras_pe.evaluation.datasets.folders import read_image_folder
from keras_pe.finetuning.pairs.pair_config import (
    BASE,
    EPOCHS,
    PairConfig,
    check_pair_config,
    fitted,
    with_short_warmup,
)
from keras_pe.finetuning.pairs.run import WiseOptions, finetune_pairs
from keras_pe.training.run.config import check_towers
from keras_pe.training.run.options import (
    add_run_arguments,
    add_weights_arguments,
    recipe_parser,
    with_overrides,
)
from keras_pe.training.run.retrieval_scores import Pairs
from keras_pe.training.run.shard_data import START_TIMEOUT, ShardData
from keras_pe.training.run.start import run_recipe
from keras_pe.training.run.train import RunOptions

USAGE = "--pairs PAIRS --initial-weights PRESET --output FOLDER"


# === The command line ===
def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = recipe_parser("recipes.finetune", __doc__, ["pairs"], USAGE)
    _add_pairs(parser)
    add_weights_arguments(parser)
    _add_ways(parser)
    add_run_arguments(parser)
    return parser.parse_args(arguments)


def _add_pairs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pairs")
    # `data`, for what all recipes share asks for it.
    group.add_argument("--pairs", dest="data", metavar="PAIRS", help="to train on")
    group.add_argument(
        "--validation-pairs",
        dest="validation_data",
        metavar="PAIRS",
        help="of the new kind, to measure retrieval on",
    )
    group.add_argument(
        "--remember",
        metavar="PAIRS",
        help="of what the model could do before",
    )
    group.add_argument(
        "--zero-shot",
        metavar="FOLDER",
        help="images of what it could name before, one folder a class",
    )
    group.add_argument("--images", metavar="FOLDER", help="that paths start from")
    group.add_argument(
        "--validation-images", metavar="FOLDER", help="those of --validation-pairs do"
    )
    group.add_argument(
        "--remember-images", metavar="FOLDER", help="those of --remember do"
    )
    group.add_argument("--image-column", metavar="NAME", help="with the paths")
    group.add_argument("--caption-column", metavar="NAME", help="with the captions")
    group.add_argument(
        "--caption-key", metavar="NAME", help="of shards: text file or JSON field"
    )
    group.add_argument(
        "--max-bad-share",
        type=float,
        metavar="SHARE",
        help="share of unusable pairs above which the run stops (default 0.01)",
    )
    group.add_argument(
        "--workers",
        type=int,
        default=0,
        metavar="N",
        help="processes that prepare batches; 0: threads (default)",
    )
    group.add_argument(
        "--epochs",
        type=int,
        default=EPOCHS,
        metavar="N",
        help="how often each image is seen; --samples goes before it (default "
        "%(default)s)",
    )


def _add_ways(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is trained, and what is kept")
    group.add_argument("--lora", metavar="RANK", help="updates of this rank alone")
    group.add_argument(
        "--towers",
        choices=("both", "image", "text"),
        help="that LoRA updates; the other one stays as it is (default both)",
    )
    group.add_argument(
        "--layer-decay",
        metavar="FACTOR",
        help="of the learning rate, from one layer to the one before it, such as 0.8",
    )
    group.add_argument(
        "--wise",
        type=_alpha,
        default=1.0,
        metavar="ALPHA",
        help="weights of the preset: 0 before to 1 fine-tuned (default), or auto",
    )
    group.add_argument(
        "--forget",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="of the remembered and the zero-shot score that --wise auto may lose "
        "(default %(default)g)",
    )


def _alpha(text: str) -> float | str:
    return text if text == "auto" else float(text)


# === The run ===
def configured(options: argparse.Namespace) -> PairConfig:
    """Returns the configuration of a command line, fitted to the pairs."""
    flags = {
        "lora_rank": options.lora,
        "lora_towers": options.towers,
        "layer_decay": options.layer_decay,
    }
    given = [f"{name}={value}" for name, value in flags.items() if value is not None]
    options.settings = [*given, *options.settings]
    set_names = {setting.partition("=")[0].strip() for setting in options.settings}
    config = BASE
    if options.data is not None:
        pairs = len(opened(options, options.data))
        config = fitted(config, pairs, options.epochs, "lora_rank" in set_names)
    config = with_overrides(config, options)
    if options.warmup_steps is None and "warmup_steps" not in set_names:
        config = with_short_warmup(config)
    return config


def opened(options: argparse.Namespace, pairs: str) -> Source:
    """Opens the pairs of an option, a table or shards; each is read once."""
    read: dict[str, Source] = vars(options).setdefault("read_pairs", {})
    if pairs in read:
        return read[pairs]
    if pairs != options.data and not is_table(pairs):
        found = open_pairs(pairs)  # shards, beside a table that needs the rest
    else:
        images = options.images
        if pairs == options.validation_data and options.validation_images:
            images = options.validation_images
        elif pairs == options.remember and options.remember_images:
            images = options.remember_images
        columns = options.image_column, options.caption_column
        found = open_pairs(pairs, images, *columns)
    read[pairs] = found
    return found


def as_pairs(options: argparse.Namespace, pairs: str | None) -> Pairs | None:
    """Returns pairs as runs take them: a table, or the name of shards."""
    if pairs is None:
        return None
    source = opened(options, pairs)
    return source if isinstance(source, PairTable) else pairs


def check_pairs(options: argparse.Namespace) -> None:
    """Refuses pairs that are not there, or can't be what they are asked for."""
    for pairs in (options.data, options.validation_data, options.remember):
        if pairs is not None:
            opened(options, pairs)
    WiseOptions(options.wise, options.forget)
    if options.remember_images and options.remember is None:
        raise ValueError(
            f"--remember-images {options.remember_images} without --remember: give the "
            "table whose paths start from there."
        )
    if options.zero_shot is not None:
        read_image_folder(options.zero_shot)
    if options.initial_weights is None:
        raise ValueError("Fine-tuning starts from weights: give --initial-weights.")
    if options.wise == "auto" and options.validation_data is None:
        raise ValueError(
            "--wise auto chooses by scores of new pairs: give --validation-pairs, or "
            "an alpha (--wise 0.5)."
        )


def check(config: PairConfig) -> None:
    """Refuses a configuration that can't run."""
    check_pair_config(config)
    check_towers(config)


def main(arguments: list[str] | None = None) -> None:
    """Fine-tunes."""
    options = parse(arguments)

    def train(config: PairConfig, data: ShardData, run: RunOptions) -> None:
        remember = as_pairs(options, options.remember)
        classes = options.zero_shot and read_image_folder(options.zero_shot)
        wise = WiseOptions(options.wise, options.forget, remember, classes)
        finetune_pairs(config, data, run, wise)

    def make_data(options: argparse.Namespace) -> ShardData:
        data = as_pairs(options, options.data)
        assert data is not None  # the start asks for it
        validation = as_pairs(options, options.validation_data)
        return ShardData(data, validation, options.workers, START_TIMEOUT)

    run_recipe(
        options, lambda: configured(options), train, check_pairs, make_data, check
    )


if __name__ == "__main__":
    main()
