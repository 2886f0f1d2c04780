"""Write a model as a file of another runtime, and prove that it computes the same.

The folder of --output gets a file a tower, how inputs are prepared, run.py, which
needs no keras_pe, and receipt.json: how alike outputs are, scores, speed against Keras.
A file that does not compute what the model does is not left behind.
"""

import argparse

from keras_pe.cli.common import add_json, path, positive, tell, text
from keras_pe.cli.output import print_json, printable

HELP = "write a model as ONNX, OpenVINO, LiteRT, SavedModel or .pt2"
EPILOG = """examples:
  keras-pe export pe_core_emoji_patch8_64 --output emoji
  keras-pe export PE-Core-B16-224 --tower both --quantize int8 --images photos \\
      --output b16
  keras-pe export PE-Core-T16-384 --format litert --quantize fp16 --output phone

onnx and openvino are written on any backend; litert and savedmodel need TensorFlow,
torch needs PyTorch, which then run in a process of their own.
  pip install "keras-pe[export]"
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
        "--output", type=path, required=True, metavar="FOLDER", help="where to"
    )
    parser.add_argument(
        "--format",
        choices=("onnx", "openvino", "litert", "savedmodel", "torch"),
        default="onnx",
        help="of the files (default: onnx)",
    )
    parser.add_argument(
        "--tower",
        choices=("image", "text", "both"),
        default="image",
        help="which tower (default: image)",
    )
    parser.add_argument(
        "--quantize",
        choices=("none", "int8", "fp16"),
        default="none",
        help="int8: multiplied in int8; fp16: stored in float16 (default: none)",
    )
    parser.add_argument(
        "--image-size",
        type=positive,
        metavar="PIXELS",
        help="another side than the preset's",
    )
    parser.add_argument(
        "--images",
        type=path,
        metavar="FOLDER",
        help="images to compare and calibrate on; folders named like classes are "
        "scored too (default: the drawings in the package)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="of file and model, for the speed (default: 1)",
    )
    add_json(parser, "the receipt")


def run(options: argparse.Namespace) -> int:
    """Exports and prints the receipt; returns the exit code."""
    from keras_pe.export import export

    if not options.json:
        tell(f"writing {options.output}, then running it beside the model")
    receipt = export(
        options.preset,
        options.output,
        format=options.format,
        tower=options.tower,
        quantize=options.quantize,
        image_size=options.image_size,
        images=options.images,
        threads=options.threads,
    )
    if options.json:
        print_json(receipt.to_json())
    else:
        for line in str(receipt).splitlines():
            print(printable(line))
        print(f"in {printable(options.output)}: receipt.json, run.py, export.json")
    return 0
