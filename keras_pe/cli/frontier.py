"""Find out what a shorter, smaller or coarser model costs, and what it saves.

Cuts of the encoder are written as files in several precisions and sizes; each file is
scored on your images and all are timed in turns, on this machine.
"""

import argparse

from keras_pe.cli.common import add_json, path, positive, show_progress, tell, text
from keras_pe.cli.output import print_json, printable

HELP = "score and time cuts of an encoder in several precisions"
EPILOG = """examples:
  keras-pe frontier pe_core_emoji_patch8_64 flowers      (one folder a class)
  keras-pe frontier PE-Core-B16-224 flowers --layers -1 9 6 --quantize none int8 \\
      --plot frontier.png
  keras-pe frontier PE-Core-T16-384 flowers --image-sizes 384 256

Speeds are told of the first layer in the first precision at the first size.
  pip install "keras-pe[export,probe]"
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "preset",
        type=text,
        metavar="PRESET",
        help="preset name, directory, hf://owner/repo[@revision] or kaggle://...",
    )
    parser.add_argument(
        "data", type=path, metavar="FOLDER", help="images, one folder a class"
    )
    parser.add_argument(
        "--test",
        type=path,
        metavar="FOLDER",
        help="test images (default: a fifth of FOLDER)",
    )
    parser.add_argument(
        "--layers",
        type=int,
        nargs="+",
        metavar="N",
        help="where the encoder is cut, -1 for its end (default: the end, 3/4 and 1/2)",
    )
    parser.add_argument(
        "--quantize",
        nargs="+",
        choices=("none", "fp16", "int8"),
        default=["none", "fp16", "int8"],
        help="precisions (default: all three)",
    )
    parser.add_argument(
        "--image-sizes",
        type=positive,
        nargs="+",
        metavar="PIXELS",
        help="sides of the images (default: the preset's)",
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "openvino"),
        default="onnx",
        help="of the files (default: onnx)",
    )
    parser.add_argument(
        "--threads", type=positive, default=1, metavar="N", help="(default: 1)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of the split (default: 0)"
    )
    parser.add_argument("--output", type=path, metavar="FILE", help="JSON file of all")
    parser.add_argument("--plot", type=path, metavar="FILE", help="picture of all")
    add_json(parser, "everything --output would write")


def run(options: argparse.Namespace) -> int:
    """Measures, prints the table, writes the files asked for."""
    from keras_pe.files import check_file_target
    from keras_pe.frontier import frontier

    for target in (options.output, options.plot):
        if target is not None:
            check_file_target(target)  # before minutes of measuring
    if options.plot is not None:
        from keras_pe.visualization.panels import check_figure_path

        check_figure_path(options.plot)
    if not options.json:
        tell("writing, scoring and timing each file; this takes a while")
    found = frontier(
        options.preset,
        options.data,
        options.test,
        layers=options.layers,
        quantize=options.quantize,
        image_sizes=options.image_sizes,
        format=options.format,
        threads=options.threads,
        seed=options.seed,
        progress=show_progress(),
    )
    if options.json:
        print_json(found.to_json(), indent=1)
    else:
        for line in str(found).splitlines():
            print(printable(line))
    for target, write in ((options.output, found.save), (options.plot, found.plot)):
        if target is not None:
            write(target)
            tell(f"wrote {printable(target)}")
    return 0
