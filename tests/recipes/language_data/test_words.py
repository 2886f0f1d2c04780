"""Words in many fonts: legible, exact, and honestly split."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image

from keras_pe.data import TarShards
from keras_pe.data.questions import questions_of
from recipes.language_data.__main__ import main
from recipes.language_data.fonts import FontError, read_face, read_fonts
from recipes.language_data.parts import part_of
from recipes.language_data.word_images import (
    WordStyle,
    _cover,
    _reshaped,
    draw_words,
    luminance,
)
from recipes.language_data.words import (
    CELLS,
    MIXTURES,
    fonts_by_part,
    letter_questions,
    read_words,
    word_part,
    word_samples,
    words_by_part,
)
from tests.recipes.language_data.small_fonts import FOLDER, WORDS, faces

pytestmark = [pytest.mark.quick, pytest.mark.once]

PLAIN = WordStyle(
    most_angle=0.0, most_slant=0.0, most_noise=0.0, blurred=0.0, least_contrast=0.5
)


def test_parts_have_their_shares_and_never_change():
    shares = {"train": 0.7, "test": 0.3}
    dealt = [part_of(str(number), shares, "a") for number in range(2000)]
    assert dealt.count("test") / 2000 == pytest.approx(0.3, abs=0.03)
    assert dealt != [part_of(str(number), shares, "b") for number in range(2000)]
    assert [part_of(word, shares, "a") for word in ("cat", "dog")] == ["train", "test"]
    with pytest.raises(ValueError, match="add up"):
        part_of("cat", {"train": 0.7}, "a")


def test_a_face_is_measured():
    face = read_face(FOLDER / "DejaVuSans-Bold.ttf")
    assert (face.family, face.style) == ("DejaVu Sans", "Bold")
    assert face.x_height == pytest.approx(1120 / 2048, abs=0.01)  # of its OS/2 table
    assert face.draws("a cat, 17")
    assert not face.draws("\u6f22")


@pytest.mark.parametrize("name", ["STIXSizOneSymReg.ttf", "LICENSE_DEJAVU"])
def test_fonts_of_symbols_are_refused(name):
    with pytest.raises(FontError):
        read_face(FOLDER / name)


def test_refused_fonts_are_named(tmp_path):
    shutil.copy(FOLDER / "DejaVuSans.ttf", tmp_path / "a.ttf")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b.otf").write_bytes(b"no font")
    found, refused = read_fonts(tmp_path)
    assert [face.path.name for face in found] == ["a.ttf"]
    assert list(refused) == ["inner/b.otf"]
    (tmp_path / "a.ttf").unlink()
    with pytest.raises(FileNotFoundError, match="none of 1 fonts"):
        read_fonts(tmp_path)


def test_no_family_and_no_word_is_on_both_sides():
    given = faces()
    with pytest.raises(ValueError, match="DejaVu Sans"):
        fonts_by_part(given["train"], given["train"])
    with pytest.raises(ValueError, match="some on each side"):
        fonts_by_part(given["train"])  # one family alone can't be split
    words = words_by_part(WORDS)
    assert sorted(word for those in words.values() for word in those) == sorted(WORDS)
    assert all(
        word_part(word.upper()) == p for p, those in words.items() for word in those
    )


def test_words_are_read(tmp_path):
    path = tmp_path / "words"
    path.write_text("cat\nCat\ncat\nit's\na\nlonger\nlongest\nbord\xe9\n")
    assert read_words(path) == ["cat", "longer"]
    with pytest.raises(ValueError, match="none of"):
        read_words(path, longest=1)


@pytest.mark.parametrize("text", ["x", "xxx"])
def test_letters_are_as_high_as_they_have_to_be(text):
    style, face = PLAIN, faces()["train"][0]
    for seed in range(12):
        image = draw_words(text, face, style, np.random.default_rng(seed))
        assert image is not None
        pixels = np.asarray(image, "float64")
        seen = luminance(pixels)
        corner = seen[:2].mean()
        rows = np.flatnonzero((np.abs(seen - corner) > 0.25).any(1))
        assert image.size == (64, 64)
        assert rows[-1] - rows[0] + 1 >= style.least_x_height - 1


def test_what_does_not_fit_is_not_drawn():
    face, rng = faces()["train"][1], np.random.default_rng(0)
    assert draw_words("mmmmmmmmm", face, WordStyle(), rng) is None
    assert draw_words("mmmmmmmmm", face, WordStyle(size=160), rng) is not None
    with pytest.raises(ValueError, match="no glyph"):
        draw_words("\u6f22", face, WordStyle(), rng)
    with pytest.raises(ValueError, match="size=8"):
        WordStyle(size=8)


def test_letters_are_thinned_stretched_and_bent():
    edge = 20
    line = Image.new("L", (140, 80))
    line.paste(255, (60, 30, 70, 50))  # a stroke
    before = np.asarray(line, "float64")

    def reshaped(seed=0, **how):
        rng = np.random.default_rng(seed)
        return np.asarray(_reshaped(line, edge, WordStyle(**how), rng), "float64")

    rng = np.random.default_rng(0)
    assert np.array_equal(_reshaped(line, edge, WordStyle(), rng), before)
    assert rng.random() == np.random.default_rng(0).random()  # nothing was drawn
    assert reshaped(thinned=1.0).sum() == before.sum() * 8 * 18 / (10 * 20)
    widths = [reshaped(seed, most_stretch=2.0).shape[1] for seed in range(40)]
    assert 70 <= min(widths) < 100 < 200 < max(widths) <= 280
    bent = [reshaped(seed, most_bend=0.2) for seed in range(3)]
    assert all(np.abs(one - before).sum() > 2000 for one in bent)
    # Points move by eight pixels at most, the border by none.
    near = before.astype(bool)
    near = np.pad(near, 9)
    near = np.any(
        [
            np.roll(near, (down, across), (0, 1))
            for down in range(-9, 10)
            for across in range(-9, 10)
        ],
        axis=0,
    )[9:-9, 9:-9]
    assert all(not one[~near].any() for one in bent)
    for how in ({"most_stretch": 0.5}, {"most_bend": -0.1}, {"thinned": 2.0}):
        with pytest.raises(ValueError, match=next(iter(how))):
            WordStyle(**how)


def test_strokes_that_vanish_are_not_drawn():
    assert _cover(Image.new("L", (3, 3))) == 0.0


def test_pictures_of_a_cell_show_its_fonts_and_words_alone():
    fonts, words = faces(), words_by_part(WORDS)
    for name, cell in CELLS.items():
        samples = list(word_samples(name, fonts, words, 12, WordStyle(), seed=3))
        for sample in samples:
            asked, *letters = questions_of(sample)
            assert asked.kind == "reading"
            assert len(letters) <= 4
            for letter in letters:
                assert letter in letter_questions(asked.answer)
            assert {word_part(word) for word in asked.answer.split()} == {cell.words}
            family = json.loads(sample["json"])["family"]
            assert family in {face.family for face in fonts[cell.fonts]}
            assert Image.open(io.BytesIO(sample["png"])).size == (64, 64)


def test_letters_are_asked_of_words_and_numbers_that_have_some():
    asked = {one.question: one.answer for one in letter_questions("Cat")}
    assert asked == {
        "What is the first letter?": "C",
        "What is the second letter?": "a",
        "What is the third letter?": "t",
        "What is the last letter?": "t",
        "How many letters are there?": "3",
    }
    digits = {one.question: one.answer for one in letter_questions("407")}
    assert digits["What is the second digit?"] == "0"
    assert all(letter_questions(text) == [] for text in ("a", "8", "a cat", "letters"))


@pytest.mark.slow
def test_letters_in_no_order_are_for_training_alone():
    fonts, words = faces(), words_by_part(WORDS)

    def unlisted(cell):
        samples = word_samples(cell, fonts, words, 60, WordStyle(), 1)
        texts = [questions_of(sample)[0].answer.lower() for sample in samples]
        singles = [text for text in texts if text.isalpha()]
        return [text for text in singles if text not in WORDS]

    found = unlisted("train")
    assert {len(text) for text in found} >= {1, 6}
    assert {word_part(text) for text in found} == {"train"}
    assert all(unlisted(cell) == [] for cell in CELLS if cell not in MIXTURES)
    assert {len(text) for text in unlisted("letters")} == {1, 2}


def test_texts_are_as_wide_as_is_asked():
    face = faces()["train"][0]
    style = WordStyle(
        least_width=0.9, most_angle=0.0, most_slant=0.0, plain=1.0, blurred=0.0
    )
    for seed in range(6):
        image = draw_words("seven", face, style, np.random.default_rng(seed))
        seen = luminance(np.asarray(image, "float64"))
        columns = np.flatnonzero((np.abs(seen - seen[0, 0]) > 0.25).any(0))
        assert columns[-1] - columns[0] + 1 >= 0.85 * 60
    with pytest.raises(ValueError, match="least_width must be 0 to 1"):
        WordStyle(least_width=1.2)


def test_a_picture_depends_on_its_number_alone():
    fonts, words = faces(), words_by_part(WORDS)
    few, many = (
        list(word_samples("train", fonts, words, n, WordStyle(), 1)) for n in (3, 5)
    )
    assert few == many[:3]
    assert few != list(word_samples("validation", fonts, words, 3, WordStyle(), 1))
    assert few != list(word_samples("train", fonts, words, 3, WordStyle(), 2))


def test_the_command_writes_all_sets(tmp_path, capsys):
    for part, names in (("a", ("Sans", "Sans-Bold")), ("b", ("Serif",))):
        (tmp_path / part).mkdir()
        for name in names:
            shutil.copy(FOLDER / f"DejaVu{name}.ttf", tmp_path / part)
    (tmp_path / "words").write_text("\n".join(WORDS))
    fonts = ["--fonts", f"{tmp_path}/a", "--test-fonts", f"{tmp_path}/b"]
    rest = ["--words", f"{tmp_path}/words", "--output", f"{tmp_path}/out"]
    main(["words", *fonts, *rest, "--count", "15", "--size", "48"])
    assert "'words_train': 15" in capsys.readouterr().out
    for cell in CELLS:
        shards = TarShards(str(tmp_path / "out" / f"words_{cell}-00000.tar"))
        assert len(shards) == {"train": 15, "reshaped": 15, "letters": 5}.get(cell, 1)
    with pytest.raises(SystemExit):
        main(["words", "--fonts", f"{tmp_path}/none", *rest])
    assert "none of 0 fonts" in capsys.readouterr().err
