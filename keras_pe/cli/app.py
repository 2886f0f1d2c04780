"""Show a page to play with, in the browser of this machine.

Name pictures, ask about them, see which patches are alike and where a text is, score
every layer and search, without a network. Needs Gradio: pip install "keras-pe[app]".

Visitors of the page see what they upload, and of this machine the pictures below
--folder and the thumbnails of --index; nothing else is read.
"""

import argparse

from keras_pe.cli.common import BUNDLED_CAPTIONER, add_preset, path, tell, text

HELP = "show a page to play with in the browser"
EPILOG = """examples:
  keras-pe app
  keras-pe app --folder photos --preset pe_core_base_patch16_224
  keras-pe app --index photos.index --port 8000
"""
HOST, PORT = "127.0.0.1", 7860


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "--folder",
        type=path,
        metavar="PICTURES",
        help="folder whose pictures visitors may see, search and probe (default: "
        "uploads alone)",
    )
    parser.add_argument(
        "--index",
        type=path,
        metavar="DIRECTORY",
        help="what `keras-pe index` wrote, for visitors to search",
    )
    parser.add_argument(
        "--host",
        type=text,
        default=HOST,
        metavar="ADDRESS",
        help=f"address to listen at (default: {HOST}, this machine alone; 0.0.0.0 lets "
        f"in all that reach it, without a password)",
    )
    parser.add_argument(
        "--port",
        type=port,
        default=PORT,
        metavar="N",
        help=f"number of the port (default: {PORT})",
    )
    add_preset(parser, "that of the index, else the one inside the package")
    parser.add_argument(
        "--captioner",
        type=text,
        metavar="NAME",
        help="preset of an encoder with a language model, which answers questions "
        f"(default: {BUNDLED_CAPTIONER}, inside the package and trained on drawings)",
    )


def port(text: str) -> int:
    """Parses the number of a port."""
    number = int(text)
    if not 1 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"expected 1 to 65535, got {number}")
    return number


def run(options: argparse.Namespace) -> int:
    """Shows the page until it is stopped; returns the exit code."""
    from keras_pe.app.serving import check_gradio, serve
    from keras_pe.app.settings import load_settings

    if options.folder is not None and not options.folder.is_dir():
        raise ValueError(f"No such folder: {options.folder}")
    check_gradio()
    settings = load_settings(
        options.preset, options.folder, options.index, options.captioner
    )
    tell(f"model: {settings.preset}; questions: {settings.captioner.preset}")
    serve(settings, options.host, options.port)
    return 0
