"""One decoded frame of a video as an image, as its maker saw it."""

from typing import Any

import numpy as np
from PIL import Image

# The upper left four numbers of a display matrix say where a pixel at (x, y), counted
# to the right and down, is shown: at (a x + c y, b x + d y). Telephones turn their
# videos with it, and mirror those of the camera on the front.
_TRANSPOSE_OF_MATRIX = {
    (-1, 0, 0, 1): Image.Transpose.FLIP_LEFT_RIGHT,
    (1, 0, 0, -1): Image.Transpose.FLIP_TOP_BOTTOM,
    (-1, 0, 0, -1): Image.Transpose.ROTATE_180,
    (0, 1, 1, 0): Image.Transpose.TRANSPOSE,
    (0, 1, -1, 0): Image.Transpose.ROTATE_270,  # clockwise by 90 degrees
    (0, -1, 1, 0): Image.Transpose.ROTATE_90,
    (0, -1, -1, 0): Image.Transpose.TRANSVERSE,
}

# That change the colours of a frame. By default each frame starts one for every core,
# and where no more may be started FFmpeg fails, or waits for ever.
_THREADS = 1


def frame_image(frame: Any, twin: Any = None) -> Image.Image:
    """Turns a frame into an image: colours by the frame's own matrix and range.

    Args:
        frame: an `av.VideoFrame`.
        twin: a frame of the same video that says what the container says of both:
            how it lies, and its colours. A decoder of one's own does not know.

    Returns:
        Mode RGB, or RGBA if the frame has an alpha channel; upright. Pixels are
        taken as square, as the reference does, whatever the file says.
    """
    if twin is not None:
        frame.colorspace, frame.color_range = twin.colorspace, twin.color_range
    if any(component.is_alpha for component in frame.format.components):
        image = Image.fromarray(frame.to_ndarray(format="rgba", threads=_THREADS))
    else:
        image = frame.to_image(threads=_THREADS)
    turn = transposition(_display_matrix(frame if twin is None else twin))
    return image if turn is None else image.transpose(turn)


def transposition(matrix: np.ndarray | None) -> Image.Transpose | None:
    """Returns what makes a frame upright, of the eight ways that it can lie.

    Args:
        matrix: a, b, c, d of the display matrix at any scale; None if there is none.

    Returns:
        None for a frame that is upright, or a matrix that is none of the eight: few
        players turn by other angles.

    Example:
        >>> transposition(np.array([-65536, 0, 0, 65536])).name
        'FLIP_LEFT_RIGHT'
    """
    if matrix is None:
        return None
    small = np.abs(matrix) * 16 <= np.abs(matrix).max()
    a, b, c, d = np.sign(np.where(small, 0, matrix)).tolist()
    return _TRANSPOSE_OF_MATRIX.get((a, b, c, d))


def _display_matrix(frame: Any) -> np.ndarray | None:
    for item in _side_data(frame):
        if item.type.name == "DISPLAYMATRIX":
            numbers = np.frombuffer(bytes(item), "int32", 9).astype("int64")
            return numbers[[0, 1, 3, 4]]
    return None


def _side_data(frame: Any) -> Any:
    """Returns a frame's side data.

    Not `frame.side_data` where it can be helped: that is kept by the frame, and keeps
    the frame, whose pixels then stay in memory until Python looks for circles.
    """
    try:
        from av.sidedata.sidedata import SideDataContainer

        return SideDataContainer(frame)  # type: ignore[call-arg]
    except (ImportError, TypeError):  # its place and arguments are PyAV's own matter
        return frame.side_data
