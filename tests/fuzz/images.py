"""Damaged images: an error that says so, or an array of the right kind."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.campaign import Campaign, refused, require
from tests.fuzz.mutations import byte_edits, edited

SIZES = (0, 1, 2, 3, 255, 65_535, 65_536, 9_000, 89_000_000, 2**31 - 1)


def valid_images() -> dict[str, bytes]:
    """Returns small images of every format and of many kinds."""
    rng = np.random.default_rng(0)
    colours = Image.fromarray(rng.integers(0, 255, (24, 30, 3), dtype="uint8"))
    alpha = Image.fromarray(rng.integers(0, 255, (24, 30, 4), dtype="uint8"))
    deep = Image.fromarray(rng.integers(0, 65_535, (24, 30), dtype="uint16"))
    exif = Image.Exif()
    exif[0x0112] = 6
    made: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
        "png": (colours, "PNG", {}),
        "png_alpha": (alpha, "PNG", {}),
        "png_palette": (colours.quantize(16), "PNG", {"transparency": 3}),
        "png_16bit": (deep, "PNG", {}),
        "png_bit": (colours.convert("1"), "PNG", {}),
        "apng": (colours, "PNG", {"save_all": True, "append_images": [colours] * 2}),
        "jpeg": (colours, "JPEG", {"exif": exif}),
        "jpeg_progressive": (colours, "JPEG", {"progressive": True}),
        "jpeg_cmyk": (colours.convert("CMYK"), "JPEG", {}),
        "webp": (alpha, "WEBP", {"lossless": True}),
        "webp_lossy": (colours, "WEBP", {"exif": exif}),
        "gif": (colours.quantize(8), "GIF", {"save_all": True, "duration": 50}),
        "bmp": (colours, "BMP", {}),
        "tiff": (colours, "TIFF", {}),
        "tiff_lzw": (colours, "TIFF", {"compression": "tiff_lzw"}),
        "tiff_16bit": (deep, "TIFF", {}),
        "tiff_float": (Image.fromarray(rng.random((24, 30), "float32")), "TIFF", {}),
        "ppm": (colours, "PPM", {}),
        "pgm_16bit": (deep, "PPM", {}),
        "mpo": (colours, "MPO", {"save_all": True, "append_images": [colours]}),
    }
    files = {}
    for name, (image, kind, options) in made.items():
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        files[name] = stream.getvalue()
    return files


def black_rows(count: int) -> bytes:
    """Returns so many bytes of zeros as a PNG holds them, made without holding them."""
    packer = zlib.compressobj(9)
    step = 1_000_000
    pieces = [
        packer.compress(bytes(min(step, count - i))) for i in range(0, count, step)
    ]
    return b"".join([*pieces, packer.flush()])


def png_of(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """Returns a PNG that declares what it likes, its checksums right."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )


class Images(Campaign):
    """`PEImageConverter` on damaged files of every format."""

    name = "images"
    short = 100
    # An image at the documented limit of 89 million pixels is decoded: 4 bytes each.
    memory_mb = 1000

    def prepare(self, folder: Path) -> None:
        import keras_pe
        from keras_pe.preprocessing.image_errors import ImageError

        self.error = ImageError
        self.converter = keras_pe.PEImageConverter(32)
        self.files = valid_images()
        self.right = {n: self.converter(content) for n, content in self.files.items()}

    def cases(self) -> st.SearchStrategy[Any]:
        damaged = st.sampled_from(sorted(self.files)).flatmap(
            lambda name: st.tuples(
                st.just("edit"), st.just(name), byte_edits(len(self.files[name]))
            )
        )
        declared = st.tuples(
            st.just("png"),
            st.sampled_from(SIZES),
            st.sampled_from(SIZES),
            st.sampled_from((1, 2, 4, 8, 16, 3)),
            st.sampled_from((0, 2, 3, 4, 6, 1)),
            st.integers(0, 3000),
        )
        # A file whose rows are all there: nothing but its size is odd.
        thin = st.tuples(
            st.just("thin"), st.sampled_from((70_000, 3_000_000, 60_000_000))
        )
        crowd = [damaged] * 8 + [declared]
        return st.one_of(*crowd, st.tuples(st.just("valid"), *[st.just("png")]), thin)

    def material(self, case: Any) -> bytes:
        kind, *more = case
        if kind == "edit":
            name, edits = more
            return edited(self.files[name], edits)
        if kind == "png":
            width, height, depth, colour, rows = more
            return png_of(width, height, depth, colour, black_rows(rows))
        if kind == "thin":
            return png_of(1, more[0], 8, 0, black_rows(2 * more[0]))
        return self.files[more[0]]

    def run(self, case: Any) -> str:
        content = self.material(case)
        try:
            found = self.converter(content)
        except self.error as error:
            require(case[0] != "valid", f"a valid image is refused: {error}")
            return refused(error)
        assert found.shape == (1, 32, 32, 3), f"shape {found.shape}"
        assert found.dtype == np.float32, f"dtype {found.dtype}"
        assert np.isfinite(found).all(), "values that are not finite"
        assert np.abs(found).max() <= 1.0001, f"values up to {np.abs(found).max()}"
        if case[0] == "valid":
            same = np.array_equal(found, self.right[case[1]])
            assert same, "another answer than before"
        return "read"
