"""The page of what was found: safe names, no other file, a bound on its size."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_pe.preprocessing import ImageError
from keras_pe.search import Match, result_page

pytestmark = [pytest.mark.quick, pytest.mark.once]
BAD_NAME = '<script>alert(1)</script>\' onload="x".png'.replace("/", "\u2215")
NO_UTF8 = "caf\udce9 \x1b[31m\n.png"


class Page(HTMLParser):
    """The tags of a page and the text between them, as a browser reads them."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def all(self, name):
        return [attributes for tag, attributes in self.tags if tag == name]


def noise(path, side=300):
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), "uint8")
    Image.fromarray(pixels).save(path)
    return path


def test_names_do_nothing(tmp_path):
    paths = [noise(tmp_path / name, 8) for name in (BAD_NAME, "o'clock & co.png")]
    page = Page(result_page(f'"{BAD_NAME}"', [Match(path, 0.5) for path in paths]))
    assert {tag for tag, _ in page.tags} == {
        *("html", "head", "meta", "title", "style", "body", "h1", "p", "ol", "li"),
        *("div", "span", "img"),
    }
    assert [image["alt"] for image in page.all("img")] == [path.name for path in paths]
    assert [row["title"] for row in page.all("li")] == [str(path) for path in paths]
    allowed = {"src", "alt", "loading"}
    assert all(set(image) == allowed for image in page.all("img"))
    assert BAD_NAME in page.text


def test_any_name_can_be_written_as_utf8():
    page = result_page(NO_UTF8, [Match(Path(NO_UTF8), 0.1)], caption=NO_UTF8)
    page.encode("utf-8")
    assert not re.search(r"[\x00-\x09\x0b-\x1f\ud800-\udfff]", page)
    assert r"caf\xe9 \x1b[31m\n.png" in Page(page).text


def test_nothing_is_fetched(tmp_path):
    path = noise(tmp_path / "a.png")
    page = result_page("a", [Match(path, 0.5)], query_image=path)
    found = Page(page)
    assert all(image["src"].startswith("data:image/") for image in found.all("img"))
    assert not re.search(r"https?:|url\(|@import|<link|<script", page)
    (policy,) = (m["content"] for m in found.all("meta") if "http-equiv" in m)
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_pictures_are_small_and_upright(tmp_path):
    wide = Image.new("RGB", (40, 400), "red")
    exif = wide.getexif()
    exif[0x0112] = 6  # to be turned
    wide.save(tmp_path / "wide.jpg", exif=exif)
    clear = Image.new("RGBA", (10, 10), (0, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    matches = [Match(tmp_path / name, 0.5) for name in ("wide.jpg", "clear.png")]
    sources = [tag["src"] for tag in Page(result_page("a", matches)).all("img")]
    first, second = (
        Image.open(io.BytesIO(base64.b64decode(source.split(",")[1])))
        for source in sources
    )
    assert first.size == (192, 19)
    assert second.convert("RGB").getpixel((5, 5)) == (255, 255, 255)


def test_the_page_has_a_bound(tmp_path):
    path = noise(tmp_path / "a.png")
    whole = result_page("a", [Match(path, 0.5)] * 6)
    assert len(Page(whole).all("img")) == 6
    address = len(Page(whole).all("img")[0]["src"])
    short = result_page("a", [Match(path, 0.5)] * 6, most_bytes=2 * address)
    assert len(Page(short).all("img")) == 2
    assert "4 without a picture" in short
    assert len(Page(short).all("li")) == 6


def test_what_is_gone_or_damaged_keeps_its_place(tmp_path):
    (tmp_path / "b.png").write_bytes(b"<script>")
    matches = [Match(tmp_path / "gone.png", 0.4), Match(tmp_path / "b.png", 0.3)]
    page = Page(result_page("a", matches))
    assert "no picture: missing file" in page.text
    assert "no picture: not an image" in page.text
    assert "2 without a picture" in page.text
    with pytest.raises(ImageError, match="missing file"):
        result_page("a", matches, query_image=tmp_path / "gone.png")


@pytest.mark.parametrize("given", [np.zeros((4, 4, 3), "uint8"), 3, io.BytesIO(b"x")])
def test_what_no_thumbnail_is_made_of_is_refused_by_its_type(given):
    with pytest.raises(TypeError, match=f"bytes of a file.*{type(given).__name__}"):
        result_page("query", [], given)
