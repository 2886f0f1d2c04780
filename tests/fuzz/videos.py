"""Damaged videos in many containers: an error that says so, or the right frames.

Other frames than before are allowed where nothing in the format could tell: the codec's
own bits, without a checksum, which FFmpeg's strict rules find nothing against.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.fuzz.campaign import Campaign, refused, require
from tests.fuzz.mutations import byte_edits, edited
from tests.fuzz.video_evidence import noticed, structure

TITLE = b"cafeXXYYZZtitle"
CONTAINERS = {  # name: (format, codec)
    "mp4": ("mp4", "libx264"),
    "mov": ("mov", "mpeg4"),
    "mkv": ("matroska", "libx264"),
    "webm": ("webm", "libvpx"),
    "avi": ("avi", "mpeg4"),
    "ts": ("mpegts", "mpeg2video"),
    "flv": ("flv", "flv1"),
    "ogg": ("ogg", "libvpx"),
    "asf": ("asf", "wmv2"),
    "mpeg": ("mpeg", "mpeg1video"),
    "ffv1": ("matroska", "ffv1"),
    "vp9": ("webm", "libvpx-vp9"),
    "h264_ts": ("mpegts", "libx264"),
    "mjpeg_avi": ("avi", "mjpeg"),
}
WORDS = (  # what is found in a file and what it is replaced by
    (TITLE, b"caf\xe9\xff\xfe\x80\0title!"),
    (b"FMP4", b"ZZZ9"),
    (b"avc1", b"zz99"),
    (b"mp4v", b"zz99"),
    (b"V_VP8", b"V_ZZ9"),
    (b"V_MPEG4/ISO/AVC", b"V_FUTURE/CODEC1"),
    (b"MJPG", b"\xff\xfe\0\x01"),
    (b"mdat", b"free"),
    (b"moov", b"free"),
    (b"trak", b"free"),
)


def frames() -> list[np.ndarray]:
    """Returns frames that move and have a grain, so that a wrong bit shows."""
    y, x = np.mgrid[:48, :64]
    grain = np.random.default_rng(0).normal(0, 8, (16, 48, 64))
    waves = [
        (np.sin((x + 6 * i) / 7), np.cos((y + 4 * i) / 5), np.sin((x + y + 9 * i) / 9))
        for i in range(16)
    ]
    return [
        (127 + 90 * np.stack(wave, -1) + noise[..., None]).clip(0, 255).astype("uint8")
        for wave, noise in zip(waves, grain, strict=True)
    ]


def valid_videos() -> dict[str, bytes]:
    """Returns a short clip in each container, and as animations."""
    import av

    files = {}
    for name, (kind, codec) in CONTAINERS.items():
        stream = io.BytesIO()
        with av.open(stream, "w", format=kind) as container:
            container.metadata["title"] = TITLE.decode()
            track = container.add_stream(codec, rate=25)
            track.width, track.height = 64, 48
            track.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for image in frames():
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                container.mux(track.encode(frame))
            container.mux(track.encode())
        files[name] = stream.getvalue()
    images = [Image.fromarray(frame) for frame in frames()]
    for kind in ("GIF", "WEBP", "PNG"):
        stream = io.BytesIO()
        images[0].save(stream, kind, save_all=True, append_images=images[1:])
        files[kind.lower()] = stream.getvalue()
    return files


class Videos(Campaign):
    """`PEVideoConverter` on damaged files."""

    name = "videos"
    short = 55
    memory_mb = 600

    def prepare(self, folder: Path) -> None:
        import keras_pe
        from keras_pe.preprocessing.image_errors import ImageError

        self.error = ImageError  # what the converter documents
        self.raising = keras_pe.PEVideoConverter(32, num_frames=4)
        self.skipping = keras_pe.PEVideoConverter(32, num_frames=4, on_error="skip")
        self.files = valid_videos()
        self.path = folder / "clip.video"
        self.right = {n: self.raising(content) for n, content in self.files.items()}

    def cases(self) -> st.SearchStrategy[Any]:
        def of_file(name: str) -> st.SearchStrategy[Any]:
            size = len(self.files[name])
            way = st.sampled_from(("bytes", "file", "skip"))
            words = [word for word in WORDS if word[0] in self.files[name]]
            edit = st.tuples(st.just(name), way, byte_edits(size), st.just(-1))
            # Containers keep what matters in the first and the last kilobytes.
            early = byte_edits(min(size, 600))
            head = st.tuples(st.just(name), way, early, st.just(-1))
            word = st.tuples(
                st.just(name),
                way,
                st.just([]),
                st.sampled_from([WORDS.index(word) for word in words] or [-1]),
            )
            return st.one_of(edit, head, word)

        return st.sampled_from(sorted(self.files)).flatmap(of_file)

    def material(self, case: Any) -> bytes:
        name, _, edits, word = case
        content = self.files[name]
        if word >= 0:
            content = content.replace(*WORDS[word])
        return edited(content, edits)

    def run(self, case: Any) -> str:
        import warnings

        name, way, edits, word = case
        content = self.material(case)
        source: Any = content
        if way == "file":
            self.path.write_bytes(content)
            source = self.path
        if way == "skip":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                found = self.skipping([source, self.files["mp4"]])
            skipped = self.skipping.last_report.skipped
            assert len(found) + len(skipped) == 2, "a video is neither read nor skipped"
            return "skipped" if skipped else self.sort(found[:1], content, name)
        try:
            found = self.raising(source)
        except self.error as error:
            require(edits or word >= 0, f"a valid video is refused: {error}")
            return refused(error)
        # A title is no part of the images.
        if not edits and (word == -1 or WORDS[word][0] == TITLE):
            assert np.array_equal(found, self.right[name]), "other frames than before"
        return self.sort(found, content, name)

    def sort(self, found: np.ndarray, content: bytes, name: str) -> str:
        assert found.shape == (1, 4, 32, 32, 3), f"shape {found.shape}"
        assert found.dtype == np.float32, f"dtype {found.dtype}"
        assert np.isfinite(found).all(), "values that are not finite"
        assert np.abs(found).max() <= 1.0001, f"values up to {np.abs(found).max()}"
        if np.array_equal(found, self.right[name]):
            return "the right frames"
        said = noticed(content)
        assert said is None, f"other frames, and a strict decoder says: {said}"
        if structure(content) == structure(self.files[name]):
            return f"other frames: {name} has no check of a frame's own bits"
        return f"other frames: {name} has no check of its times and sizes"
