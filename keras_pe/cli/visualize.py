"""Draw what the model sees in images.

--kind says what is drawn:

  pca         patches in the colours of their three main directions; the default
  text        where each --text is
  attention   where each head looks: those of the attention pooling, or with --layer
              those of a block (from its class token, or from the patch at --point)
  similarity  which patches resemble the one at --point, of the first image
  layers      pca, or with --point similarity, through the layers
"""

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pe.cli.common import (
    add_images,
    add_preset,
    chosen_preset,
    find_all,
    load,
    path,
    tell,
    text,
)
from keras_pe.cli.output import printable

if TYPE_CHECKING:
    import numpy as np

    from keras_pe.models.vision_encoder import PEVisionEncoder
    from keras_pe.preprocessing.image import PEImageConverter

HELP = "draw what the model sees in images"
EPILOG = """examples:
  keras-pe visualize photo.png
  keras-pe visualize photo.png --kind text --text "a cat" "a dog" --output cats.png
  keras-pe visualize photo.png --kind similarity --point 3,4 --layer -2
  keras-pe visualize photo.png --kind layers --image-size 448

Images keep their shape, to the nearest whole patch. --image-size takes any size in
whole patches, one number or two (336x448, height first): larger ones give finer maps.
"""
MOST_LAYERS = 12  # drawn by --kind layers
# What `text_score_maps` takes; spelled out here, so that --help needs no Keras.
METHODS = ("contribution", "value", "projection")
CONTRASTS = ("none", "mean", "softmax")
# What each kind may be told, beside the preset, the size and the output.
KINDS = {
    "pca": ("layer",),
    "text": ("text", "method", "contrast"),
    "attention": ("layer", "point"),
    "similarity": ("layer", "point"),
    "layers": ("point",),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    add_images(parser)
    parser.add_argument(
        "--kind",
        choices=tuple(KINDS),
        default="pca",
        help="what is drawn, see above (default: pca)",
    )
    parser.add_argument(
        "--text",
        nargs="+",
        type=text,
        metavar="TEXT",
        help="what to look for, with --kind text",
    )
    parser.add_argument(
        "--layer",
        type=int,
        metavar="N",
        help="layer, from 0 (input of the first block); negatives count from the end "
        "(default: the last)",
    )
    parser.add_argument(
        "--point",
        type=point,
        metavar="ROW,COLUMN",
        help="patch, counted from 0,0 at the top left",
    )
    parser.add_argument(
        "--image-size",
        type=image_size,
        metavar="N",
        help="side in pixels, or HEIGHTxWIDTH (default: the preset's own on the longer "
        "side, more for a preset of few patches)",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        help="how patches are compared with texts (default: contribution)",
    )
    parser.add_argument(
        "--contrast",
        choices=CONTRASTS,
        help="whether texts compete: mean shows what speaks for one rather than for "
        "the others, softmax which of them fits best (default: none)",
    )
    parser.add_argument(
        "--output",
        type=path,
        metavar="FILE",
        help="file of the figure (default: IMAGE_KIND.png, here)",
    )
    add_preset(parser)


def point(text: str) -> tuple[int, int]:
    """Parses `row,column`."""
    found = re.fullmatch(r"(\d+),(\d+)", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected ROW,COLUMN such as 3,4; got {text}")
    return int(found[1]), int(found[2])


def image_size(text: str) -> tuple[int, int]:
    """Parses `side` or `heightxwidth`."""
    found = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip())
    if found is None:
        raise argparse.ArgumentTypeError(f"expected 448 or 336x448; got {text}")
    return int(found[1]), int(found[2] or found[1])


def run(options: argparse.Namespace) -> int:
    """Draws and writes; returns the exit code."""
    from keras_pe.files import check_file_target
    from keras_pe.visualization.panels import check_figure_path

    check(options)
    paths = find_all(options.images)
    output = options.output or Path(f"{paths[0].stem}_{options.kind}.png")
    check_figure_path(output)
    check_file_target(output)
    draw = {
        "pca": draw_pca,
        "text": draw_texts,
        "attention": draw_attention,
        "similarity": draw_similarity,
        "layers": draw_layers,
    }[options.kind]
    draw(options, paths, output)
    print(f"Figure: {printable(output)}")
    return 0


def check(options: argparse.Namespace) -> None:
    """Raises ValueError for options that do not go together."""
    for name in ("layer", "point", "text", "method", "contrast"):
        if getattr(options, name) is not None and name not in KINDS[options.kind]:
            kinds = [kind for kind, names in KINDS.items() if name in names]
            raise ValueError(
                f"--{name} has no meaning with --kind {options.kind}: it goes with "
                f"--kind {' or '.join(kinds)}."
            )
    if options.kind == "text" and not options.text:
        raise ValueError('--kind text needs texts: --text "a cat" "a dog".')
    if options.kind == "similarity" and options.point is None:
        raise ValueError("--kind similarity needs a patch to compare with: --point.")


def prepare(
    converter: "PEImageConverter",
    encoder: "PEVisionEncoder",
    options: argparse.Namespace,
    paths: list[Path],
) -> tuple["np.ndarray", "np.ndarray"]:
    """Returns the images as model input, and finer ones to draw.

    Without a size asked for, they keep the shape of the first image: those of other
    shapes are cropped to it, none is squashed.
    """
    from keras_pe.preprocessing.image import PEImageConverter
    from keras_pe.visualization.map_sizes import cropped, shown_size, size_of_shape

    config = converter.get_config()
    patch = encoder.patch_embedding.patch_size
    size = options.image_size
    if size is None:
        config["resize_mode"] = "center_crop"
        size = size_of_shape(source_size(converter, paths[0]), patch, encoder)
        tell(
            f"{size[0]} x {size[1]} pixels (height x width): {size[0] // patch} x "
            f"{size[1] // patch} patches; --image-size takes another size"
        )
        others = [
            image
            for image in paths[1:]
            if cropped(source_size(converter, image), size) >= patch
        ]
        if others:
            tell(
                f"{len(others)} of {len(paths)} images have another shape and are "
                f"cropped to that of {printable(paths[0].name)}, first "
                f"{printable(others[0].name)}: draw them apart to see all of them"
            )
    images = PEImageConverter.from_config({**config, "image_size": size})(paths)
    encoder.patch_embedding.grid(images.shape)  # refuses what is not whole patches
    shown = PEImageConverter.from_config({**config, "image_size": shown_size(size)})(
        paths
    )
    return images, shown


def source_size(converter: "PEImageConverter", image: Path) -> tuple[int, int]:
    """Returns height and width of an image as its photographer saw it."""
    from keras_pe.preprocessing.image_decoding import open_image_file

    name, formats = str(image), converter.formats
    opened = open_image_file(image, name, formats, converter.max_pixels)
    return opened.height, opened.width


def load_vision(
    options: argparse.Namespace, paths: list[Path]
) -> tuple["PEVisionEncoder", "np.ndarray", "np.ndarray"]:
    """Returns the vision encoder of any preset, its input, and images to draw."""
    from keras_pe.models.vision_encoder import PEVisionEncoder
    from keras_pe.preprocessing.image import PEImageConverter

    preset = chosen_preset(options.preset)
    encoder = PEVisionEncoder.from_preset(preset)
    converter = PEImageConverter.from_preset(preset)
    return encoder, *prepare(converter, encoder, options, paths)


def layer_of(options: argparse.Namespace) -> int:
    """Returns the layer asked for, by default the last."""
    return -1 if options.layer is None else options.layer


def draw_texts(options: argparse.Namespace, paths: list[Path], output: Path) -> None:
    """Draws where each text is."""
    from keras_pe.models.embedding import embed_texts
    from keras_pe.visualization import text_score_figure, text_score_maps

    model, tokenizer, converter, *_ = load(chosen_preset(options.preset))
    images, shown = prepare(converter, model.vision_encoder, options, paths)
    texts = embed_texts(model, tokenizer, options.text, len(options.text))
    maps = text_score_maps(
        model,
        images,
        texts,
        options.method or "contribution",
        options.contrast or "none",
    )
    # One scale: a text that is nowhere stays dark.
    text_score_figure(shown, maps, options.text, shared_scale=True, path=output)


def draw_pca(options: argparse.Namespace, paths: list[Path], output: Path) -> None:
    """Draws the main components of one layer, the same for all images."""
    from keras_pe.visualization import pca_figure, pca_map

    encoder, images, shown = load_vision(options, paths)
    colours = pca_map(encoder.features(images, layer_of(options)))
    pca_figure(shown, colours, [path.stem for path in paths], output)


def draw_similarity(
    options: argparse.Namespace, paths: list[Path], output: Path
) -> None:
    """Draws what resembles a patch; with several images, one of the first."""
    from keras_pe.visualization import similarity_figure, similarity_map

    encoder, images, shown = load_vision(options, paths)
    features = encoder.features(images, layer_of(options))
    row, column = options.point
    maps = similarity_map(features, row, column, image=0)
    similarity_figure(shown, maps, options.point, 0, output)


def draw_attention(
    options: argparse.Namespace, paths: list[Path], output: Path
) -> None:
    """Draws where the heads of the pooling or of a block look."""
    from keras_pe.models.tower import resolve_layers
    from keras_pe.visualization import (
        attention_figure,
        attention_maps,
        pooling_attention,
    )

    encoder, images, shown = load_vision(options, paths)
    asked = options.layer is not None or options.point is not None
    if encoder.attention_pooling is not None and not asked:
        weights = pooling_attention(encoder, images).patches
        names = [f"{path.stem}\nattention pooling" for path in paths]
        attention_figure(shown, weights, path=output, titles=names)
        return
    rows, columns = encoder.patch_embedding.grid(images.shape)
    first = int(encoder.class_token)
    query, place = 0, "class token"
    if options.point is not None:
        row, column = options.point
        if row >= rows or column >= columns:
            raise ValueError(
                f"--point {row},{column} is outside the {rows} rows and {columns} "
                f"columns of patches, counted from 0."
            )
        query = first + row * columns + column
        place = f"patch {row},{column} of {rows} x {columns}"
    elif not first:
        raise ValueError("This encoder has no class token: say which patch, --point.")
    layer = layer_of(options)
    weights = attention_maps(encoder, images, layer)[:, :, query, first:]
    weights = weights.reshape(*weights.shape[:2], rows, columns)
    (number,) = resolve_layers([layer], encoder.num_layers)
    names = [f"{path.stem}\nlayer {number}, {place}" for path in paths]
    attention_figure(shown, weights, options.point, output, titles=names)


def draw_layers(options: argparse.Namespace, paths: list[Path], output: Path) -> None:
    """Draws components or similarity through the layers."""
    import numpy as np

    from keras_pe.visualization import layer_figure, pca_map, similarity_map

    encoder, images, shown = load_vision(options, paths)
    count = min(encoder.num_layers + 1, MOST_LAYERS)
    layers = np.linspace(0, encoder.num_layers, count).round().astype(int).tolist()
    found: Any = encoder.features(images, layers)
    if options.point is None:
        maps = [pca_map(features) for features in found]
    else:
        row, column = options.point
        maps = [similarity_map(features, row, column) for features in found]
    layer_figure(shown, maps, layers, options.point, output)
