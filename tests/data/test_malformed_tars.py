"""Tar shards that must be refused, with the shard and the byte in the error."""

import gzip
import io
import lzma
import os
import pickle
import tarfile

import pytest

from keras_pe.data import TarShardError, TarShards
from keras_pe.data.tar_headers import BLOCK
from keras_pe.data.tar_index import MAX_EXTENSIONS
from tests.data.shards import sample_members, tar_bytes

pytestmark = [pytest.mark.quick, pytest.mark.once]

GOOD = [member for number in range(3) for member in sample_members(number)]


def error_of(tmp_path, content, **options):
    """Opens a shard with this content and returns its error."""
    path = tmp_path / "bad.tar"
    path.write_bytes(content)
    with pytest.raises(TarShardError) as caught:
        TarShards(path, **options)
    error = caught.value
    assert str(error).startswith(f"{path}, byte {error.offset}: ")
    assert not list(tmp_path.glob("*.json"))
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.offset) == (str(error), error.offset)
    return error


def with_special(kind, name="x.txt", **attributes):
    """A tar whose second member is not a regular file."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        first = tarfile.TarInfo("1.txt")
        archive.addfile(first, io.BytesIO(b""))
        info = tarfile.TarInfo(name)
        info.type = kind
        for attribute, value in attributes.items():
            setattr(info, attribute, value)
        archive.addfile(info)
    return stream.getvalue()


def fixed_checksum(block):
    block = bytearray(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def edited(offset, start, replacement, content=None):
    """A good tar with some bytes of one header replaced, and a right checksum."""
    content = bytearray(content or tar_bytes(GOOD))
    content[offset + start : offset + start + len(replacement)] = replacement
    content[offset : offset + BLOCK] = fixed_checksum(content[offset : offset + BLOCK])
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (tarfile.LNKTYPE, "a hard link"),
        (tarfile.SYMTYPE, "a symbolic link"),
        (tarfile.CHRTYPE, "a character device"),
        (tarfile.BLKTYPE, "a block device"),
        (tarfile.FIFOTYPE, "a named pipe"),
        (tarfile.GNUTYPE_SPARSE, "a sparse file"),
        (b"Z", "of type b'Z'"),
    ],
)
def test_anything_but_files_and_folders(tmp_path, kind, says):
    error = error_of(tmp_path, with_special(kind, linkname="/etc/passwd"))
    assert says in str(error)
    assert error.offset == BLOCK


def test_folders_are_passed_over(tmp_path):
    (tmp_path / "a.tar").write_bytes(with_special(tarfile.DIRTYPE, "folder/"))
    assert len(TarShards(tmp_path / "a.tar")) == 1


@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd.txt",
        "../x.txt",
        "a/../../x.txt",
        "..",
        "a\\x.txt",
        "C:x.txt",
        "a\nb.txt",
        "",
    ],
)
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE])
def test_unsafe_names(tmp_path, name, kind):
    content = edited(0, 0, name.encode().ljust(100, b"\0"), tar_bytes([("x.txt", b"")]))
    content = edited(0, 156, kind, content)
    assert "control characters" in str(error_of(tmp_path, content))


@pytest.mark.parametrize("file_format", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_unsafe_long_names(tmp_path, file_format):
    content = tar_bytes([("../" + "x" * 200 + ".txt", b"1")], file_format)
    assert "leaves its folder" in str(error_of(tmp_path, content))


def test_names_that_are_not_utf8(tmp_path):
    assert "not UTF-8" in str(error_of(tmp_path, edited(0, 0, b"\xff\xfe.txt\0")))


@pytest.mark.parametrize("names", [("1.txt", "1.txt"), ("1.txt", "1.TXT")])
def test_repeated_members(tmp_path, names):
    members = [(name, b"1") for name in (names[0], "2.txt", names[1])]
    error = error_of(tmp_path, tar_bytes(members))
    assert "comes twice" in str(error)
    assert error.offset == 4 * BLOCK


def test_reserved_extensions(tmp_path):
    content = tar_bytes([("1.__key__", b"1")])
    assert "reserved extension" in str(error_of(tmp_path, content))


def test_every_truncation_is_noticed(tmp_path):
    content = tar_bytes(GOOD)
    end = len(content.rstrip(b"\0"))
    end += -end % BLOCK  # the end-of-archive mark begins here
    cuts = {*range(0, end + BLOCK, 97), *range(0, end + BLOCK, BLOCK), end - 1, end}
    for cut in sorted(cuts):
        error = error_of(tmp_path, content[:cut])
        assert error.offset <= cut
    # A single block of zeros is the end, as for other readers.
    (tmp_path / "ok.tar").write_bytes(content[: end + BLOCK])
    assert len(TarShards(tmp_path / "ok.tar")) == 3


def test_every_damaged_header_is_noticed(tmp_path):
    content = tar_bytes(GOOD)
    for place in range(0, BLOCK, 7):
        damaged = bytearray(content)
        damaged[place] ^= 0x41
        error = error_of(tmp_path, bytes(damaged))
        assert "no tar header" in str(error)


@pytest.mark.parametrize(
    "size",
    [
        b"77777777777\0",  # 8 GB
        b"\x80" + b"\xff" * 11,  # GNU's binary form: 2**88
        b"\xff" * 12,  # negative
        b"-0000000001\0",
        b"0000009\0\0\0\0\0",
        b"0x1\0\0\0\0\0\0\0\0\0",
    ],
)
def test_impossible_sizes(tmp_path, size):
    error = error_of(tmp_path, edited(0, 124, size))
    assert "declares" in str(error) or "octal" in str(error)


def test_a_size_over_the_limit(tmp_path):
    content = tar_bytes([("1.txt", b""), ("2.bin", bytes(1001))])
    error = error_of(tmp_path, content, max_member_bytes=1000)
    assert "'2.bin' has 1001 bytes" in str(error)
    path = tmp_path / "bad.tar"
    assert len(TarShards(path, max_member_bytes=1001)) == 2
    with pytest.raises(TarShardError, match="1001 bytes"):  # from the stored index, too
        TarShards(path, max_member_bytes=1000)


def pax(records, kind=b"x", size=None, then=(("1.txt", b"12345"),)):
    """A tar that begins with a pax header of these bytes."""
    head = bytearray(tar_bytes([("header", records)])[:BLOCK])
    head[156:157] = kind
    if size is not None:
        head[124:136] = b"%011o\0" % size
    body = records + bytes(-len(records) % BLOCK)
    return fixed_checksum(head) + body + tar_bytes(then)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pax(b"11 path=x/\n"[:-1]), "damaged pax"),
        (pax(b"99 path=x\n"), "damaged pax"),
        (pax(b"no record\n"), "damaged pax"),
        (pax(b"0 =\n"), "damaged pax"),
        (pax(b"11 size=-1\n"), "decimal number"),
        (pax(b"30 size=99999999999999999999\n\n"), "decimal number"),
        (pax(b"18 size=999999999\n"), "declares 999999999 bytes"),
        (pax(b"19 path=../../x.txt\n"[:-1] + b"\n"), "damaged pax"),
        (pax(b"20 path=../../x.txt\n"), "leaves its folder"),
        (pax(b"22 GNU.sparse.major=1\n"), "sparse"),
        (pax(b"14 path=g.txt\n", kind=b"g"), "global header"),
        (pax(b"", size=1 << 30), "extended header of 1073741824 bytes"),
        (pax(b"x" * 1000, kind=b"L", size=65_537), "extended header of 65537 bytes"),
        (pax(b"", kind=b"K"), "link with a long name"),
        (pax(b"2.txt\0", kind=b"L")[:1024] + pax(b"3.txt\0", kind=b"L"), "in a row"),
        (pax(b"2.txt\0", kind=b"L", then=()), "behind an extended header"),
        (pax(b"12 mtime=15\n", then=()), "behind an extended header"),
    ],
)
def test_hostile_extended_headers(tmp_path, content, says):
    assert says in str(error_of(tmp_path, content))


def test_harmless_extended_headers(tmp_path):
    for content in (pax(b"17 comment=hello\n", kind=b"g"), pax(b"12 mtime=15\n")):
        (tmp_path / "ok.tar").write_bytes(content)
        assert TarShards(tmp_path / "ok.tar")[0]["txt"] == b"12345"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty (0 bytes)"),
        (b"<!DOCTYPE html>" * 100, "a page of HTML or XML"),
        (b"\xef\xbb\xbf\n<html>404</html>", "a page of HTML or XML"),
        (b'{"error": "no such bucket"}', "a text of JSON"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"PK\x03\x04" + bytes(600), "a ZIP archive"),
        (b"PAR1" + bytes(600), "a Parquet table"),
        (b"short", "truncated"),
        (bytes(range(256)) * 40, "no tar file"),
        (lzma.compress(tar_bytes(GOOD)), "compressed"),
        (gzip.compress(tar_bytes(GOOD) + os.urandom(2000)), "compressed"),
        (bytes(10240), "holds no sample"),
        (tar_bytes([("README", b"hello")]), "holds no sample"),
        (tar_bytes(GOOD) + tar_bytes(sample_members(7)), "after the end-of-archive"),
    ],
)
def test_other_files(tmp_path, content, says):
    assert says in str(error_of(tmp_path, content))


@pytest.mark.parametrize("start", [b"<", b"{", b"PAR1", b"BZh"])
def test_a_name_may_start_like_another_kind_of_file(tmp_path, start):
    name = start.decode() + "1.txt"
    (tmp_path / "ok.tar").write_bytes(tar_bytes([(name, b"a cat")]))
    assert TarShards(tmp_path / "ok.tar")[0]["txt"] == b"a cat"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(ValueError, match="expected a regular file"):
        TarShards(tmp_path / "pipe.tar")


@pytest.mark.parametrize("path", ["pipe:curl -s https://x/a.tar", " PIPE:cat a.tar"])
def test_a_command_is_never_run(path):
    with pytest.raises(ValueError, match="never starts a program"):
        TarShards(path)


def test_every_file_of_another_kind_is_refused_with_the_rule(tmp_path):
    count = MAX_EXTENSIONS + 1
    names = [f"{n:04d}.cam-{n:04d}.jpg" for n in range(count)]
    error = error_of(tmp_path, tar_bytes([(name, b"") for name in names]))
    assert f"at most {MAX_EXTENSIONS} kinds" in str(error)
    assert "ends at the first dot" in str(error)
    # One less is read, with a warning, and in memory that grows with the files.
    path = tmp_path / "ok.tar"
    path.write_bytes(tar_bytes([(name, b"x") for name in names[1:]]))
    with pytest.warns(UserWarning, match="ends at the first dot"):
        shards = TarShards(path)
    assert len(shards) == MAX_EXTENSIONS
    assert shards[7]["cam-0008.jpg"] == b"x"
    assert (tmp_path / "ok.tar.index.json").stat().st_size < 60 * MAX_EXTENSIONS


@pytest.mark.slow
def test_random_damage_never_escapes_the_shard(tmp_path):
    """Whatever bytes change: an error of ours, or samples from inside the file."""
    import numpy as np

    rng = np.random.default_rng(0)
    content = np.frombuffer(tar_bytes(GOOD, tarfile.PAX_FORMAT), np.uint8)
    path = tmp_path / "fuzzed.tar"
    refused = 0
    for _ in range(300):
        damaged = content.copy()
        places = rng.integers(0, len(content), rng.integers(1, 9))
        damaged[places] = rng.integers(0, 256, len(places))
        path.write_bytes(damaged.tobytes())
        try:
            shards = TarShards(path, cache_index=False)
            for number in range(len(shards)):
                shards[number]
        except TarShardError:
            refused += 1
    assert refused > 30
