"""Score a model on a data set: zero-shot classification or retrieval."""

import argparse
from typing import TYPE_CHECKING, Any

from keras_pe.cli.common import (
    SOME_SKIPPED,
    PresetParts,
    add_batch_size,
    add_json,
    add_preset,
    chosen_preset,
    load,
    path,
    positive,
    show_progress,
    tell,
)
from keras_pe.cli.frame_options import add_frame_options
from keras_pe.cli.output import print_json, printable

if TYPE_CHECKING:
    from keras_pe.evaluation.datasets import Captioned, Labelled
    from keras_pe.evaluation.evaluation_result import EvaluationResult
    from keras_pe.evaluation.sample_embedder import VideoProtocol

HELP = "score a model on a data set"
EPILOG = """examples:
  keras-pe evaluate zero-shot imagenet/val --names class_index.json \\
      --templates en_zeroshot_classification_templates.json --templates-for imagenet1k
  keras-pe evaluate zero-shot kinetics/val --video --template-set kinetics
  keras-pe evaluate retrieval --coco captions_val2014.json --images val2014
  keras-pe evaluate retrieval --karpathy dataset_flickr30k.json --images flickr \\
      --output flickr.json

A folder holds one folder of images or videos for each class. The scores come with
bootstrap 95 % intervals; the JSON file of --output holds every setting, the hashes of
weights and data, and what was skipped.
"""
MODES = {"both": ("squash", "center_crop"), "squash": ("squash",)}
MODES["center_crop"] = ("center_crop",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    tasks = parser.add_subparsers(dest="task", metavar="TASK", required=True)
    zero_shot = tasks.add_parser("zero-shot", help="classification by class names")
    zero_shot.add_argument(
        "folder", nargs="?", type=path, metavar="FOLDER", help="one folder a class"
    )
    zero_shot.add_argument(
        "--shards", metavar="PATTERN", help="tar shards with .cls files instead"
    )
    zero_shot.add_argument(
        "--names",
        type=path,
        metavar="FILE",
        help="class names: .json or .txt; needed for shards",
    )
    prompts = zero_shot.add_mutually_exclusive_group()
    prompts.add_argument(
        "--templates", type=path, metavar="FILE", help="JSON file of prompts"
    )
    prompts.add_argument(
        "--template-set",
        metavar="NAME",
        help="plain, general or kinetics (default: the preset's own, else general)",
    )
    zero_shot.add_argument(
        "--templates-for", metavar="NAME", help="which list of --templates"
    )
    _add_equals(zero_shot, "--equal-names", "class names that no prompt tells apart")
    retrieval = tasks.add_parser("retrieval", help="recall at k, both ways")
    source = retrieval.add_mutually_exclusive_group(required=True)
    source.add_argument("--coco", type=path, metavar="JSON", help="COCO captions")
    source.add_argument(
        "--karpathy", type=path, metavar="JSON", help="dataset_flickr30k.json or alike"
    )
    source.add_argument(
        "--csv", type=path, metavar="FILE", help="video_id and sentence of videos"
    )
    source.add_argument("--shards", metavar="PATTERN", help="tar shards with captions")
    retrieval.add_argument(
        "--images", type=path, metavar="DIR", help="folder of the images or videos"
    )
    retrieval.add_argument(
        "--split", default="test", help="split of --karpathy (default: test)"
    )
    retrieval.add_argument(
        "--max-captions",
        type=positive,
        default=5,
        metavar="N",
        help="of each image of --coco and --karpathy (default: 5)",
    )
    retrieval.add_argument(
        "--dsl-scale",
        type=float,
        metavar="S",
        help="re-weight scores by a softmax over the queries, as upstream with 1.0",
    )
    _add_equals(retrieval, "--equal-tokens", "texts that are one to the tokenizer")
    for task in (zero_shot, retrieval):
        _add_common(task)


def _add_equals(parser: argparse.ArgumentParser, flag: str, what: str) -> None:
    parser.add_argument(
        flag,
        choices=("separate", "credit"),
        default="separate",
        help=f"{what} are rivals (default), or each gets the credit of all",
    )


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resize-mode",
        choices=tuple(MODES),
        default="both",
        help="both reports the better one too, as the paper does",
    )
    parser.add_argument("--video", action="store_true", help="these are videos")
    add_frame_options(parser)
    parser.add_argument(
        "--max-skipped",
        type=float,
        default=0.01,
        metavar="SHARE",
        help="share of unreadable images that stops the run (default: 0.01)",
    )
    parser.add_argument(
        "--hash",
        choices=("contents", "names"),
        default="contents",
        help="what the hash of the data is made of: names is quick",
    )
    parser.add_argument(
        "--output", type=path, metavar="FILE", help="the JSON file to write"
    )
    add_json(parser, "everything --output would write")
    add_preset(parser)
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Evaluates, prints and writes; returns the exit code."""
    from keras_pe.cli.common import say_skipped
    from keras_pe.files import check_file_target
    from keras_pe.preprocessing.image_errors import SkipReport

    if options.output:
        check_file_target(options.output)  # before hours of evaluation
    evaluate = _zero_shot if options.task == "zero-shot" else _retrieval
    result = evaluate(options)
    if options.json:
        print_json(result.to_dict(), indent=2)
    else:
        print(result)
    if options.output:
        result.to_json(options.output)
        say = tell if options.json else print
        say(f"written: {printable(options.output)}")
    say_skipped(SkipReport(result.num_samples, list(result.skipped)))
    return SOME_SKIPPED if result.skipped else 0


def _zero_shot(options: argparse.Namespace) -> "EvaluationResult":
    from keras_pe.evaluation.accuracy import evaluate_zero_shot

    data = _labelled(options)
    loaded = load(chosen_preset(options.preset))
    return evaluate_zero_shot(
        loaded.model,
        loaded.tokenizer,
        data.samples,
        data.labels,
        data.class_names,
        _templates(options, loaded),
        equal_names=options.equal_names,
        **_settings(options, loaded),
    )


def _retrieval(options: argparse.Namespace) -> "EvaluationResult":
    from keras_pe.evaluation.retrieval import evaluate_retrieval

    data = _captioned(options)
    loaded = load(chosen_preset(options.preset))
    return evaluate_retrieval(
        loaded.model,
        loaded.tokenizer,
        data.samples,
        data.texts,
        dsl_scale=options.dsl_scale,
        equal_tokens=options.equal_tokens,
        **_settings(options, loaded),
    )


def _settings(options: argparse.Namespace, loaded: PresetParts) -> dict[str, Any]:
    return {
        "resize_modes": MODES[options.resize_mode],
        "image_converter": loaded.image_converter,
        "video": _video(options),
        "batch_size": options.batch_size,
        "seed": options.seed,
        "max_skipped_share": options.max_skipped,
        "hash_contents": options.hash == "contents",
        "progress": show_progress(),
    }


def _video(options: argparse.Namespace) -> "VideoProtocol | None":
    from keras_pe.evaluation.sample_embedder import VideoProtocol

    if not options.video and not getattr(options, "csv", None):
        return None
    return VideoProtocol(options.num_frames, options.frame_rule, options.frame_average)


def _labelled(options: argparse.Namespace) -> "Labelled":
    from keras_pe.evaluation import datasets
    from keras_pe.evaluation.datasets.dataset_files import read_json, read_lines

    if bool(options.folder) == bool(options.shards):
        raise ValueError("Give a folder or --shards, one of the two.")
    if options.folder:
        read = (
            datasets.read_video_folder if options.video else datasets.read_image_folder
        )
        return read(options.folder, options.names)
    if not options.names:
        raise ValueError("Shards number their classes: give their --names.")
    is_text = options.names.suffix == ".txt"
    names = read_lines(options.names) if is_text else read_json(options.names)
    if not isinstance(names, list):
        raise ValueError(
            f"{options.names} must be a list of names, one for each class."
        )
    return datasets.read_labelled_shards(options.shards, names)


def _captioned(options: argparse.Namespace) -> "Captioned":
    from keras_pe.evaluation import datasets

    if options.shards:
        return datasets.read_captioned_shards(options.shards)
    if not options.images:
        raise ValueError("Give the folder of the images or videos with --images.")
    if options.csv:
        return datasets.read_video_captions(options.csv, options.images)
    if options.coco:
        return datasets.read_coco_captions(
            options.coco, options.images, options.max_captions
        )
    return datasets.read_karpathy_captions(
        options.karpathy, options.images, options.split, options.max_captions
    )


def _templates(options: argparse.Namespace, loaded: PresetParts) -> Any:
    from keras_pe.preprocessing.prompts import read_templates

    if options.templates:
        return read_templates(options.templates, options.templates_for)
    if options.template_set:
        return options.template_set
    return loaded.metadata.get("zero_shot", {}).get("templates") or "general"
