"""A page on which people correct the captions of an engine's clips.

Run:      python -m projects.video_engine.refine --output pairs
Look:     at the address that it prints, on this machine; Ctrl-C ends it.
Expect:   pairs/edits.jsonl, a line for each caption as soon as it is saved. Then
          `python -m projects.video_engine ... --edits pairs/edits.jsonl` takes them for
          the captioner's, and computes again what reads them.
"""

import argparse
import sys
from pathlib import Path

from keras_pe.files import TargetBusyError, only_writer
from keras_pe.printable_text import printable
from projects.video_engine.refine_clips import Clips
from projects.video_engine.refine_server import serve

EDITS = "edits.jsonl"


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        "python -m projects.video_engine.refine",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", required=True, help="folder that the engine wrote")
    parser.add_argument("--edits", help=f"file of the edits; {EDITS} there by default")
    parser.add_argument("--port", type=int, default=8765, help="0: one that is free")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    """Serves the page until it is ended."""
    settings = parse(arguments)
    output = Path(settings.output)
    edits = Path(settings.edits) if settings.edits else output / EDITS
    try:
        clips = Clips(output / "rows.jsonl", edits)
        # No folder is made: it is the lock's name that keeps a second page out.
        with only_writer(edits.with_name(f"{edits.name}.page")):
            serve(clips, settings.port, _say)
    except (ValueError, OSError) as error:
        busy = isinstance(error, TargetBusyError)
        message = f"{edits} is being edited by another page." if busy else error
        raise SystemExit(printable(message)) from error
    except KeyboardInterrupt:
        print(f"\n{len(clips.edits):,} clips have an edit in {edits}.", file=sys.stderr)


def _say(address: str) -> None:
    print(f"{address}   (Ctrl-C ends it)", flush=True)


if __name__ == "__main__":
    main()
