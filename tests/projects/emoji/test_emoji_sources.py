"""Packages and photographs that the emoji data come from."""

import dataclasses
import hashlib
import io
import json
import tarfile

import numpy as np
import pytest
from PIL import Image

from projects.emoji.data.concepts import normalise_hexcode
from projects.emoji.data.packages import (
    Package,
    PackageError,
    load_packages,
    obtain,
    read_members,
)

pytest.importorskip("resvg_py", reason="resvg_py draws the SVGs")

from projects.emoji.data.tuxpaint import LIST, fit_square
from projects.emoji.data.tuxpaint_match import head_noun, is_photo_like, match

pytestmark = pytest.mark.once

# Packages ------------------------------------------------------------------


def make_tarball(path, name="package/icons.json", link=None):
    with tarfile.open(path, "w:gz") as archive:
        info = tarfile.TarInfo(name)
        data = b"{}"
        if link is not None:
            info.type, info.linkname, data = tarfile.SYMTYPE, link, b""
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    "name", ["/etc/evil", "package/../../evil", "../icons.json", "package\\..\\evil"]
)
def test_unsafe_member_paths_are_refused(tmp_path, name):
    with pytest.raises(PackageError, match="Unsafe path"):
        read_members(make_tarball(tmp_path / "a.tgz", name), ())


def test_links_are_refused(tmp_path):
    path = make_tarball(tmp_path / "a.tgz", link="/etc/passwd")
    with pytest.raises(PackageError, match="Links"):
        read_members(path, ("package/icons.json",))


def test_members_are_read_and_missing_ones_reported(tmp_path):
    path = make_tarball(tmp_path / "a.tgz")
    names = ("package/icons.json",)
    assert read_members(path, names) == {"package/icons.json": b"{}"}
    with pytest.raises(PackageError, match=r"lacks package/chars\.json"):
        read_members(path, (*names, "package/chars.json"))


def test_a_tampered_package_is_refused(tmp_path):
    package = Package("@x/y", "1.0.0", "0" * 128, (), "text", "MIT")
    path = make_tarball(tmp_path / package.file_name)
    with pytest.raises(PackageError, match="SHA-512"):
        obtain(package, tmp_path)
    good = hashlib.sha512(path.read_bytes()).hexdigest()
    assert obtain(dataclasses.replace(package, sha512=good), tmp_path) == path


def test_committed_packages_are_pinned():
    packages = load_packages()
    assert {p.vendor for p in packages if p.role == "test"} == {"fluent-emoji-flat"}
    assert all(len(p.sha512) == 128 and p.version[0].isdigit() for p in packages)


# Photographs ---------------------------------------------------------------


def test_photographs_are_fitted_without_stretching():
    image = Image.new("RGBA", (40, 40))
    image.paste((255, 0, 0, 255), (10, 10, 30, 20))
    pixels = np.asarray(fit_square(image, 32))
    assert pixels.shape == (32, 32, 4)
    assert (pixels[10:22, 2:-2, 3] == 255).all()
    assert (pixels[:7, :, 3] == 0).all()


@pytest.mark.parametrize(
    ("text", "noun"),
    [
        ("A frog.", "frog"),
        ("A very small pumpkin.", "pumpkin"),
        ("A pair of cherries.", "cherries"),
        ("A ripe, red tomato!", "ripe"),  # a known limit: hence the hand check
        ("A peacock (a male peafowl).", "peacock"),
    ],
)
def test_head_noun(text, noun):
    assert head_noun(text) == noun


def test_match_prefers_labels_to_words():
    common = {"is_flag": False, "is_symbol": False, "keywords": []}
    table = [
        common | {"hexcode": "A", "label": "frog", "tags": []},
        common | {"hexcode": "B", "label": "pond", "tags": ["frog", "water"]},
    ]
    assert match("A green frog.", table) == ["A"]
    assert match("Some water.", table) == ["B"]


def test_photo_heuristic_tells_noise_from_flat_colour():
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    assert is_photo_like(Image.fromarray(noise))
    assert not is_photo_like(Image.new("RGB", (40, 40), "red"))
    assert not is_photo_like(Image.new("RGBA", (40, 40)))


def test_committed_photograph_list_is_well_formed():
    listed = json.loads(LIST.read_text("utf-8"))
    assert len(listed) > 100
    for name, hexcode in listed.items():
        assert name.endswith(".png")
        assert hexcode == normalise_hexcode(hexcode)
