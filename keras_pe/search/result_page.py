"""The matches of a search as one page of HTML, which needs no other file."""

import html
from collections.abc import Sequence
from typing import Any

from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.preprocessing.thumbnails import data_uri, thumbnail
from keras_pe.printable_text import printable
from keras_pe.search.image_index import Match

MOST_BYTES = 16 * 2**20  # of thumbnails in a page: what a browser opens at once
# No script, nothing from a server: a name that got past the escaping would do nothing.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 1rem/1.4 system-ui, sans-serif; margin: 1rem auto; max-width: 70rem;
  padding: 0 1rem; }}
h1 {{ font-size: 1.3rem; overflow-wrap: anywhere; }}
ol {{ display: grid; gap: 1rem; list-style: none; margin: 1rem 0; padding: 0;
  grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr)); }}
li {{ min-width: 0; }}
img {{ display: block; max-width: 100%; height: auto; background: #fff; }}
li img {{ height: 100%; object-fit: contain; width: 100%; }}
.frame {{ align-items: center; background: #fff; border: 1px solid #8886;
  aspect-ratio: 1; border-radius: .4rem; box-sizing: border-box; color: #444;
  display: flex;
  justify-content: center; margin-bottom: .3rem; overflow: hidden; padding: .3rem;
  text-align: center; }}
.score {{ font-variant-numeric: tabular-nums; font-weight: 600; }}
.name {{ font-size: .85rem; overflow-wrap: anywhere; }}
.of {{ color: GrayText; font-size: .85rem; }}
</style>
</head>
<body>
<h1>{heading}</h1>
{query}<p class="of">{caption}</p>
<ol>
{rows}
</ol>
</body>
</html>
"""
ROW = """<li title="{path}">
<div class="frame">{picture}</div>
<span class="score">{score}</span> <span class="name">{name}</span>
</li>"""


def result_page(
    query: str,
    matches: Sequence[Match],
    query_image: Any = None,
    caption: str = "",
    most_bytes: int = MOST_BYTES,
) -> str:
    """Returns a page that shows what was found: thumbnails, scores, names.

    It holds all that it shows: no script, no network, no other file. Names are
    escaped, and written without control characters. An image that can't be read any
    more keeps its place, with the reason.

    Args:
        query: what was searched for, a text or the name of an image.
        matches: from `ImageIndex.search`, best first.
        query_image: the image that was searched for, for its thumbnail; None for a
            text.
        caption: a line below the heading, such as where was searched.
        most_bytes: of all thumbnails together; those beyond it are left out, and the
            page says so.

    Returns:
        HTML in UTF-8.

    Raises:
        ImageError: if the image that was searched for can't be read.

    Example:
        >>> from pathlib import Path
        >>> page = result_page("<b>", [Match(Path("no_such.png"), 0.25)])
        >>> "&lt;b&gt;" in page, "0.250" in page, "missing file" in page
        (True, True, True)
    """
    left = most_bytes
    shown = ""
    if query_image is not None:
        address = data_uri(thumbnail(query_image))
        left -= len(address)
        shown = f'<img src="{address}" alt="the image that was searched for">\n'
    rows = []
    left_out = 0
    for match in matches:
        name = printable(match.path.name)
        picture, size = _picture(match, left)
        left_out += not size
        left -= size or 0
        rows.append(
            ROW.format(
                path=_escaped(match.path),
                picture=picture,
                score=f"{match.similarity:.3f}",
                name=html.escape(name),
            )
        )
    parts = [caption] if caption else []
    parts.append(f"{len(matches)} images, best first, with the cosine of each")
    if left_out:
        parts.append(
            f"{left_out} without a picture: unreadable, or more than the "
            f"{most_bytes / 2**20:.3g} MB of pictures that this page may hold"
        )
    heading = f"Search: {printable(query)}"
    return PAGE.format(
        policy=html.escape(POLICY),
        title=html.escape(heading),
        heading=html.escape(heading),
        query=shown,
        caption=html.escape("; ".join(map(printable, parts))),
        rows="\n".join(rows),
    )


def _picture(match: Match, left: int) -> tuple[str, int]:
    """Returns what stands in an image's place, and the bytes of its picture."""
    if left <= 0:
        return "no picture: the page is full", 0
    try:
        address = data_uri(thumbnail(match.path))
    except ImageError as error:
        return html.escape(f"no picture: {error.reason}"), 0
    if len(address) > left:
        return "no picture: the page is full", 0
    name = _escaped(match.path.name)
    return f'<img src="{address}" alt="{name}" loading="lazy">', len(address)


def _escaped(text: object) -> str:
    return html.escape(printable(text))
