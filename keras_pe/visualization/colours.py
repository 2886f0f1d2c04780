"""From lightness, chroma and hue to the colours of a screen."""

import numpy as np

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
