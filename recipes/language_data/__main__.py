"""Write questions about images as shards, to align an encoder with language by.

    python -m recipes.language_data words --fonts /usr/share/fonts/truetype \\
        --words /usr/share/dict/words --output data/language --count 30000

Words in many fonts, 15 ms each: `words_train`, `words_validation` and four test sets,
of fonts and words that training shows and that it does not.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from recipes.language_data.fonts import Face, families_of, read_fonts
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


if __name__ == "__main__":
    main()
