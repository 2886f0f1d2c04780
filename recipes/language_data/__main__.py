"""Write questions about images as shards, to align an encoder with language by.

    python -m recipes.language_data words --fonts /usr/share/fonts/truetype \\
        --words /usr/share/dict/words --output data/language --count 30000

Words in many fonts, 17 ms each: `words_train`, `words_validation` and four test sets,
of fonts and words that training shows and that it does not.

    python -m recipes.language_data scenes --cut-outs art/train --name scenes_train \\
        --output data/language --count 20000

    python -m recipes.language_data llava --json llava.json --images coco \\
        --output data/language
    python -m recipes.language_data cauldron --parquet ai2d/*.parquet \\
        --output data/language --name ai2d

Scenes of one to four pictures `KIND/NAME.png` with an alpha channel, 10 ms each: how
many there are, where they lie, of which colour they are. Test on pictures of another
folder. The last two rewrite data of two common formats; what can't be used is counted
by reason, and the first of each named.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from keras_pe.data import SkippedSamples
from keras_pe.data.questions import write_question_shards
from recipes.language_data.cauldron import cauldron_samples
from recipes.language_data.fonts import Face, families_of, read_fonts
from recipes.language_data.llava import llava_samples
from recipes.language_data.scene_images import read_cut_outs
from recipes.language_data.scenes import scene_samples
from recipes.language_data.word_images import WordStyle
from recipes.language_data.words import (
    fonts_by_part,
    read_words,
    words_by_part,
    write_words,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line and writes shards."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.language_data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    _add_words(commands.add_parser("words", help="words rendered in many styles"))
    _add_scenes(commands.add_parser("scenes", help="cut-outs on a background"))
    _add_llava(commands.add_parser("llava", help="conversations in LLaVA's JSON"))
    _add_cauldron(commands.add_parser("cauldron", help="The Cauldron's parquet"))
    options = parser.parse_args(arguments)
    try:
        options.run(options)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        parser.exit(1, f"{parser.prog}: {error}\n")


def _add_words(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--fonts", type=Path, required=True, metavar="FOLDER")
    parser.add_argument(
        "--test-fonts",
        type=Path,
        metavar="FOLDER",
        help="those to keep back; else a quarter of the families, by their hash",
    )
    parser.add_argument("--words", type=Path, required=True, help="one word a line")
    parser.add_argument("--longest", type=int, default=6, help="letters of a word")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--count", type=int, default=30_000, help="of training")
    parser.add_argument("--size", type=int, default=64, help="of pictures, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_words)


def _words(options: argparse.Namespace) -> None:
    faces = _fonts(options.fonts)
    test = None if options.test_fonts is None else _fonts(options.test_fonts)
    fonts = fonts_by_part(faces, test)
    words = words_by_part(read_words(options.words, options.longest))
    print({part: len(those) for part, those in words.items()}, "words")
    for part, those in fonts.items():
        print(f"{part}: {families_of(those)}")
    style = WordStyle(options.size)
    print(write_words(options.output, fonts, words, options.count, style, options.seed))


def _fonts(folder: Path) -> list[Face]:
    faces, refused = read_fonts(folder)
    for name, reason in refused.items():
        print(f"left out {name}: {reason}")
    return faces


def _add_scenes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--cut-outs", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--name", default="scenes", help="of the shards")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=64, help="of pictures, pixels")
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(run=_scenes)


def _scenes(options: argparse.Namespace) -> None:
    things, refused = read_cut_outs(options.cut_outs)
    for name, reason in refused.items():
        print(f"left out {name}: {reason}")
    print(f"{len(things)} cut-outs of {len({thing.name for thing in things})} names")
    samples = scene_samples(
        things, options.count, options.size, options.seed, options.name
    )
    paths = write_question_shards(options.output, options.name, samples)
    print(f"{options.name}: {options.count} scenes in {len(paths)} shards")


def _add_llava(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", type=Path, required=True, help="or .jsonl")
    parser.add_argument("--images", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--name", default="llava", help="of the shards")
    parser.set_defaults(
        run=_rewrite,
        samples=lambda options, skipped: llava_samples(
            options.json, options.images, skipped
        ),
    )


def _add_cauldron(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parquet", type=Path, required=True, nargs="+")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--name", default="cauldron", help="of the shards")
    parser.set_defaults(
        run=_rewrite,
        samples=lambda options, skipped: cauldron_samples(options.parquet, skipped),
    )


def _rewrite(options: argparse.Namespace) -> None:
    skipped = SkippedSamples(max_bad_share=1.0)  # all are looked at, and told
    try:
        samples = options.samples(options, skipped)
        paths = write_question_shards(options.output, options.name, samples)
    finally:
        print(skipped)
    print(f"{options.name}: {len(paths)} shards")


if __name__ == "__main__":
    main()
