"""Images of features: their three main directions as colours."""

from typing import Any

import numpy as np

from keras_pe.models.features import Features
from keras_pe.visualization.similarity import as_feature_map

# Where the components land. The paper names the colour space alone; these ranges keep
# most colours inside what a screen shows. Hue stops short of the full circle, else the
# two ends of the third component would look the same.
LIGHTNESS = (25.0, 90.0)
CHROMA = (5.0, 65.0)
HUE = (20.0, 320.0)  # degrees


def pca_map(
    features: Features | Any,
    joint: bool = True,
    blur: bool = True,
    percentiles: tuple[float, float] = (1.0, 99.0),
) -> np.ndarray:
    """Colours each patch by the three main components of its features.

    The first component becomes lightness, the second chroma, the third hue. Patches
    of one colour are alike to the model.

    The paper gives the recipe (PCA of `0.5 x + 0.5 g(x)`, three components, LCh, RGB)
    and leaves the rest open. Here each component is scaled so that `percentiles` of
    it span its range and what lies outside is clipped; and each component is turned so
    that its longer tail is positive. The same features always give the same colours,
    and what is rare comes out light, so that one layer is not the negative of the next.

    Args:
        features: `Features` of one layer, or `(batch, rows, columns, channels)`.
        joint: whether all images share the components and their scale, so that a
            colour means the same in each; else each image has its own.
        blur: whether the features are mixed with their blur. It suppresses the few
            global tokens of late layers, which otherwise dominate the components.
        percentiles: the share of each component, in percent, at both ends of its
            range.

    Returns:
        float32 `(batch, rows, columns, 3)`, red, green and blue from 0 to 1.

    Raises:
        ValueError: if `features` or `percentiles` make no sense.

    Source: Perception Encoder, appendix B.3.2.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> pca_map(rng.normal(size=(1, 4, 6, 32))).shape
        (1, 4, 6, 3)
    """
    low, high = percentiles
    if not 0.0 <= low < high <= 100.0:
        raise ValueError(
            f"percentiles must be two rising numbers from 0 to 100, got {percentiles}."
        )
    values = as_feature_map(features).astype("float64")
    if blur:
        values = 0.5 * values + 0.5 * gaussian_blur(values)
    groups = [values] if joint else [values[i : i + 1] for i in range(len(values))]
    return np.concatenate([_colours(group, low, high) for group in groups])


def _colours(  # values: (batch, rows, columns, channels)
    values: np.ndarray, low: float, high: float
) -> np.ndarray:
    components = principal_components(values.reshape(-1, values.shape[-1]))
    ends = np.percentile(components, [low, high], axis=0)  # (2, 3)
    # A component without spread, to rounding, gets the middle of its range.
    flat = ends[1] - ends[0] <= 1e-9 * max(float(np.abs(components).max()), 1e-30)
    span = np.where(flat, 1.0, ends[1] - ends[0])
    unit = np.clip((components - ends[0]) / span, 0.0, 1.0)
    unit = np.where(flat, 0.5, unit)
    ranges = np.array([LIGHTNESS, CHROMA, HUE])
    lch = ranges[:, 0] + unit * (ranges[:, 1] - ranges[:, 0])
    return lch_to_rgb(lch).reshape(*values.shape[:3], 3)


def principal_components(
    values: np.ndarray, count: int = 3
) -> np.ndarray:  # values: (tokens, channels)
    """Returns the main components of tokens, the one of largest variance first.

    Args:
        values: `(tokens, channels)`.
        count: number of components. Where the tokens have fewer, the rest are 0.

    Returns:
        float64 `(tokens, count)`. Eigenvectors have no sign of their own: each
        component is turned so that the sum of its cubes is positive.
    """
    values = np.asarray(values, "float64")
    centred = values - values.mean(axis=0)
    tokens, channels = centred.shape
    # Eigenvectors of the smaller of the two Gram matrices: the same components.
    if channels <= tokens:
        _, vectors = np.linalg.eigh(centred.T @ centred)
        axes = vectors[:, ::-1][:, :count].T  # (count, channels)
    else:
        _, vectors = np.linalg.eigh(centred @ centred.T)
        axes = vectors[:, ::-1][:, :count].T @ centred
        lengths = np.linalg.norm(axes, axis=1, keepdims=True)
        axes = axes / np.maximum(lengths, 1e-300)
    components = np.zeros((tokens, count))
    components[:, : len(axes)] = centred @ axes.T
    return components * np.where((components**3).sum(axis=0) < 0, -1.0, 1.0)


def gaussian_blur(values: np.ndarray) -> np.ndarray:
    """Blurs over the grid of patches with a Gaussian of 3 x 3 and sigma 1.

    Beyond the edge the grid is mirrored without repeating the edge itself, as
    torchvision's `gaussian_blur` does; the paper does not say. A grid of one row or
    column is blurred along the other axis alone.

    Args:
        values: `(batch, rows, columns, channels)`.

    Returns:
        An array of the same shape.
    """
    side = np.exp(-0.5)
    centre, side = 1.0 / (1.0 + 2.0 * side), side / (1.0 + 2.0 * side)
    for axis in (1, 2):
        size = values.shape[axis]
        if size == 1:
            continue
        before = np.abs(np.arange(-1, size - 1))
        after = np.arange(1, size + 1)
        after[-1] = size - 2
        values = centre * values + side * (
            values.take(before, axis) + values.take(after, axis)
        )
    return values


# === Colours of a screen ===
# CIE 1976 with the D65 white point of sRGB (IEC 61966-2-1).
WHITE = np.array([0.95047, 1.0, 1.08883])
XYZ_TO_LINEAR_RGB = np.array(
    [
        [3.2404542, -1.5371385, -0.4985314],
        [-0.9692660, 1.8760108, 0.0415560],
        [0.0556434, -0.2040259, 1.0572252],
    ]
)


def lch_to_rgb(lch: np.ndarray) -> np.ndarray:  # (..., 3)
    """Turns lightness, chroma and hue into sRGB.

    LCh is CIE L*a*b* in polar form: equal steps look about equally large, which is
    not so for steps of red, green and blue. Colours that a screen can't show are
    clipped.

    Args:
        lch: `(..., 3)`: lightness from 0 to 100, chroma from 0 (grey) to about 130,
            hue in degrees (0 pinkish red, 90 yellow, 180 green, 270 blue).

    Returns:
        float32 `(..., 3)`, red, green and blue from 0 to 1.

    Source: CIE 15 (L*a*b*), IEC 61966-2-1 (sRGB).

    Example:
        >>> lch_to_rgb(np.array([100.0, 0.0, 0.0])).round(2)
        array([1., 1., 1.], dtype=float32)
    """
    lightness, chroma, hue = np.moveaxis(np.asarray(lch, "float64"), -1, 0)
    angle = np.radians(hue)
    y = (lightness + 16.0) / 116.0
    x = y + chroma * np.cos(angle) / 500.0  # a* / 500
    z = y - chroma * np.sin(angle) / 200.0  # b* / 200
    roots = np.stack([x, y, z], axis=-1)
    knee = 6.0 / 29.0  # below it the cube root becomes a straight line
    linear = 3.0 * knee**2 * (roots - 4.0 / 29.0)
    xyz = np.where(roots > knee, roots**3, linear) * WHITE
    rgb = np.clip(xyz @ XYZ_TO_LINEAR_RGB.T, 0.0, 1.0)
    encoded = np.where(
        rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1.0 / 2.4) - 0.055
    )
    return encoded.astype("float32")
