"""Rasterise SVG documents of strangers: each in a process that may be ended."""

import io
import math
import multiprocessing
import resource
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import TracebackType

import resvg_py
from PIL import Image
from tqdm import tqdm

from projects.emoji.data.render import encode_webp
from projects.emoji.data.tuxpaint import fit_square

MEMORY_BYTES = 2 * 2**30
START_SECONDS = 120.0  # imports on a busy machine
OVERSAMPLING, MAX_SIDE = 4, 4096
DPI = 90.0  # what the SVG editors of 2005 took a point to mean; 0 makes pages empty


class RenderError(RuntimeError):
    """A document can't be drawn; the message says why."""


def rasterise(svg: str, side: int) -> Image.Image:
    """Draws a document so that its longer side has the given length.

    Fonts of the system are not used: the result would depend on the machine.
    """
    png = resvg_py.svg_to_bytes(
        svg_string=svg, width=side, height=side, dpi=DPI, skip_system_fonts=True
    )
    with Image.open(io.BytesIO(bytes(png))) as image:
        return image.convert("RGBA")


def draw_visible(svg: str, size: int) -> bytes:
    """Draws what a page shows, cropped to it, as a square WebP image."""
    side = OVERSAMPLING * size
    image = rasterise(svg, side)
    box = image.getchannel("A").getbbox()
    if box is None:
        raise ValueError("the drawing is empty")
    longest = max(box[2] - box[0], box[3] - box[1])
    if longest < size:  # a small drawing on a large page: once more, larger
        image = rasterise(svg, min(math.ceil(side * 2 * size / longest), MAX_SIDE))
    return encode_webp(fit_square(image, size))


def _serve(pipe: Connection, size: int) -> None:
    """Answers each document with (drawn, image or reason) until told to stop."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    pipe.send(None)
    while (svg := pipe.recv()) is not None:
        try:
            pipe.send((True, draw_visible(svg, size)))
        except Exception as error:
            pipe.send((False, str(error)))


class GuardedRenderer:
    """A process that draws; it is ended and replaced when it takes too long."""

    def __init__(self, size: int, seconds: float) -> None:
        self.size, self.seconds = size, seconds
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # threads and fork don't mix
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, self.size), daemon=True
        )
        self._process.start()
        theirs.close()
        if not self._pipe.poll(START_SECONDS):
            raise RuntimeError("the drawing process did not start")
        self._pipe.recv()

    def draw(self, svg: str) -> bytes:
        """Returns the image, or raises :class:`RenderError`."""
        try:
            self._pipe.send(svg)
            if self._pipe.poll(self.seconds):
                drawn, result = self._pipe.recv()
                if drawn:
                    return bytes(result)
                raise RenderError(str(result))
            reason = f"it took more than {self.seconds:g} s"
        except (EOFError, OSError):
            reason = "the drawing process died"
        self.close()
        self._start()
        raise RenderError(reason)

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> "GuardedRenderer":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def render_guarded(
    documents: Sequence[str],
    size: int,
    workers: int = 2,
    seconds: float = 20.0,
    quiet: bool = False,
) -> Iterator[bytes | RenderError]:
    """Yields, in order, the image of each document or why there is none."""
    renderers: SimpleQueue[GuardedRenderer] = SimpleQueue()
    for _ in range(workers):
        renderers.put(GuardedRenderer(size, seconds))

    def draw(svg: str) -> bytes | RenderError:
        renderer = renderers.get()
        try:
            return renderer.draw(svg)
        except RenderError as error:
            return error
        finally:
            renderers.put(renderer)

    try:
        with ThreadPoolExecutor(workers) as pool:
            results = pool.map(draw, documents)
            yield from tqdm(results, total=len(documents), desc="render", disable=quiet)
    finally:
        for _ in range(workers):
            renderers.get().close()
