"""Files that keep a parser busy end by the time limit; errors of files come once."""

import io
import itertools
import sys
from pathlib import Path

import pytest
from PIL import Image

from keras_pe.preprocessing import PEVideoConverter, VideoError, time_limit
from keras_pe.preprocessing.decoder_reports import RaisesOnce
from tests.fuzz.videos import frames

sys.path.insert(0, str(Path(__file__).parent))
from odd_videos import encode

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.once]

CLEAR = {"bf": "0", "g": "100", "b": "4000000"}

# === Files that keep a parser busy ===
MATROSKA = b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\1" + b"\xff" * 7
EMPTY_PARTS = {
    "mp4": (b"\0\0\0\x18ftypisom\0\0\2\0isommp42", b"\0\0\0\x08free"),
    "mkv": (MATROSKA, b"\xec\x80"),
    "avi": (b"RIFF\0\0\0\x7fAVI ", b"JUNK\0\0\0\0"),
    "flv": (b"FLV\1\1\0\0\0\x09" + bytes(4), b"\x09" + bytes(14)),
    "mpeg": (b"\0\0\1\xba\x44\0\4\0\4\1\0\1\1\xf8", b"\0\0\1\xbe\0\0"),
}


@pytest.mark.quick
@pytest.mark.parametrize("kind", EMPTY_PARTS)
def test_the_time_limit_ends_what_never_comes_back(kind, monkeypatch, tmp_path):
    head, part = EMPTY_PARTS[kind]
    path = tmp_path / f"a.{kind}"
    path.write_bytes(head + part * 100_000)
    clock = itertools.count()  # a second passes with each look at it
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(VideoError, match="over the time limit") as caught:
        PEVideoConverter(16, max_seconds=4.0)(path)
    assert caught.value.name == str(path)
    assert next(clock) < 12  # not one look for each of 100,000 parts


def test_the_time_limit_holds_while_an_animation_is_counted(monkeypatch):
    stream = io.BytesIO()
    Image.new("P", (1, 1)).save(stream, "GIF")
    content = stream.getvalue()
    dot = content.index(b",")
    many = content[:dot] + content[dot:-1] * 50_000 + b";"
    clock = itertools.count()
    monkeypatch.setattr(time_limit.time, "monotonic", lambda: float(next(clock)))
    with pytest.raises(VideoError, match="over the time limit"):
        PEVideoConverter(16, max_seconds=60.0)(many)
    assert next(clock) < 70


class Broken(io.BytesIO):
    """A file that can't go anywhere."""

    def seek(self, offset, whence=0):
        raise OSError("no such place")


def test_errors_of_a_file_are_not_printed(capfd):
    content = encode(frames(), "mp4", "mpeg4", **CLEAR)
    for file, printed in ((Broken(content), True), (Broken(content), False)):
        with pytest.raises(OSError, match="no such place"):
            av.open(file if printed else RaisesOnce(file))
        assert ("exception being dropped" in capfd.readouterr().err) == printed
    file = RaisesOnce(Broken(content))
    assert (file.read(4), file.tell()) == (content[:4], 4)
    with pytest.raises(OSError, match="no such place"):
        file.seek(0)
    assert file.seek(0) < 0
