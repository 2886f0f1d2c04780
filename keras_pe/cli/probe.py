"""Find the layer that a task needs: score every layer of an encoder on a folder."""

import argparse
import functools
from typing import Any

from keras_pe.cli.common import (
    add_batch_size,
    add_json,
    add_preset,
    chosen_preset,
    path,
    positive,
    show_progress,
    tell,
)
from keras_pe.cli.output import print_json, printable

HELP = "score every layer of an encoder on your own images"
EPILOG = """examples:
  keras-pe probe flowers                       (one folder a class)
  keras-pe probe flowers/train --test flowers/test --probe logistic
  keras-pe probe ade20k --task segmentation --plot layers.png --csv layers.csv
  keras-pe probe davis --task tracking --layers 10 20 30

A folder of classes is flowers/rose/1.jpg, flowers/tulip/2.jpg and so on; ADE20K and
DAVIS are read as they are published.
"""
PROBES = ("knn", "ridge", "logistic", "attentive")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "data", type=path, metavar="FOLDER", help="one folder a class, ADE20K or DAVIS"
    )
    parser.add_argument(
        "--test",
        type=path,
        metavar="FOLDER",
        help="test images (default: a part of FOLDER)",
    )
    parser.add_argument(
        "--task",
        help="what FOLDER holds (default: classification)",
        choices=("classification", "segmentation", "tracking"),
        default="classification",
    )
    parser.add_argument(
        "--probe",
        choices=PROBES,
        default="ridge",
        help="what is trained on the features of each layer (default: ridge)",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="N",
        help="which layers (default: all of them)",
    )
    parser.add_argument(
        "--norm", action="store_true", help="apply the final norm to every layer"
    )
    parser.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0],
        metavar="N",
        help="probes are trained once for each (default: 0)",
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="side of the images (default: the preset's)",
    )
    parser.add_argument("--limit", type=positive, metavar="N", help="at most N samples")
    parser.add_argument(
        "--output", type=path, metavar="FILE", help="JSON file of all results"
    )
    parser.add_argument(
        "--csv", type=path, metavar="FILE", help="CSV file, one line a layer"
    )
    parser.add_argument(
        "--plot", type=path, metavar="FILE", help="figure of the curve over the layers"
    )
    add_json(parser, "everything --output would write")
    add_preset(parser)
    add_batch_size(parser)


def run(options: argparse.Namespace) -> int:
    """Sweeps the layers, prints the answer and writes the files asked for."""
    from keras_pe.files import check_file_target
    from keras_pe.models.vision_encoder import PEVisionEncoder
    from keras_pe.preprocessing.image import PEImageConverter
    from keras_pe.probing import plot_sweeps, sweep
    from keras_pe.probing.folder_data import folder_items, folder_samples

    for target in (options.output, options.csv, options.plot):
        if target is not None:
            check_file_target(target)  # before hours of probing
    if options.plot is not None:
        from keras_pe.visualization.panels import check_figure_path

        check_figure_path(options.plot)
    preset = chosen_preset(options.preset)
    encoder = PEVisionEncoder.from_preset(preset)
    converter = PEImageConverter.from_preset(preset)
    if options.image_size is not None:
        encoder.patch_embedding.grid((1, options.image_size, options.image_size, 3))
        config = {**converter.get_config(), "image_size": options.image_size}
        converter = PEImageConverter.from_config(config)
    data: Any
    test: Any = None
    if options.task == "tracking":
        if options.test is not None:
            raise ValueError("Tracking trains nothing: leave out --test.")
        data = folder_items(options.data, converter, options.limit)
        probe = "tracking"
    else:
        probe = options.probe if options.task == "classification" else options.task
        data = folder_samples(
            options.data, options.task, converter, "training", options.limit
        )
        if options.test is not None or options.task == "segmentation":
            test = folder_samples(
                options.test or options.data,
                options.task,
                converter,
                "validation",
                options.limit,
            )
    result = sweep(
        encoder,
        data,
        test,
        probe=probe,
        layers=options.layers or "all",
        norm=options.norm,
        seeds=options.seeds,
        batch_size=options.batch_size,
        image_converter=converter,
        progress=show_progress(),
    )
    if options.json:
        print_json(result.to_dict(), indent=2)
    else:
        print(result)
    for target, write in (
        (options.output, result.to_json),
        (options.csv, result.to_csv),
        (options.plot, functools.partial(plot_sweeps, {result.probe: result})),
    ):
        if target is not None:
            write(target)
            tell(f"wrote {printable(target)}")
    return 0
