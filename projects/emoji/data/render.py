"""Rasterise SVG documents to lossless RGBA WebP, in parallel."""

import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt
import resvg_py
from PIL import Image
from tqdm import tqdm


def encode_webp(image: Image.Image) -> bytes:
    """Encodes losslessly, with colour cleared where nothing is visible."""
    pixels: npt.NDArray[np.uint8] = np.array(image.convert("RGBA"), dtype=np.uint8)
    pixels[pixels[..., 3] == 0] = 0
    buffer = io.BytesIO()
    Image.fromarray(pixels, "RGBA").save(
        buffer, "WEBP", lossless=True, quality=100, method=4, exact=True
    )
    return buffer.getvalue()


def render_svg(svg: str, size: int) -> bytes:
    """Rasterises one SVG document to a square WebP image."""
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg, width=size, height=size))
    with Image.open(io.BytesIO(png)) as image:
        if image.size != (size, size):
            raise ValueError(f"rendered to {image.size}, expected a {size}px square")
        if image.convert("RGBA").getchannel("A").getbbox() is None:
            raise ValueError("the drawing is empty")
        return encode_webp(image)


def render_all(
    documents: Sequence[str], size: int, workers: int = 2, quiet: bool = False
) -> Iterator[bytes]:
    """Renders documents in order, on several processes, with a progress bar."""
    task = partial(render_svg, size=size)
    bar = partial(tqdm, total=len(documents), desc="render", disable=quiet)
    if workers <= 1:
        yield from bar(map(task, documents))
        return
    with ProcessPoolExecutor(workers) as pool:
        yield from bar(pool.map(task, documents, chunksize=64))
