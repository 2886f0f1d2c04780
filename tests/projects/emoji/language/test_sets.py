"""Sets of questions about emoji: what is shown where, and leaks that are found."""

import collections
import dataclasses

import numpy as np
import pytest
from PIL import Image

from keras_pe.data import TarShards
from keras_pe.data.questions import questions_of, write_question_shards
from projects.emoji.data.render import encode_webp
from projects.emoji.data.shards import write_shards
from projects.emoji.language.captions import caption_sets
from projects.emoji.language.check import (
    LeakError,
    SetContent,
    check_balance,
    check_drawings,
    check_words,
    read_set,
)
from projects.emoji.language.cut_outs import cut_outs
from projects.emoji.language.data import read_drawings, write_drawings, write_varied
from recipes.language_data.words import CELLS

pytestmark = [pytest.mark.quick, pytest.mark.once]


def record(key, vendor="seen", family="A", heldout=False, **others):
    return {
        "key": key,
        "vendor": vendor,
        "family": family,
        "concept": family,
        "label": f"thing {family}",
        "heldout": heldout,
        "group": "animals-nature",
        "subgroup": "animal-mammal",
        "is_flag": False,
        "is_symbol": False,
        **others,
    }


def names(*texts):
    return {"name": set(texts)}


def small_sets():
    """Records and sets in which all is as it should be."""
    drawn = {
        "train": [record("t1"), record("t2", family="B")],
        "validation": [record("v1")],
        "test_vendor": [record("u1", "unseen")],
        "test_heldout": [record("h1", family="H", heldout=True)],
        "test_vendor_heldout": [record("w1", "unseen", "H", True)],
        "varied_train": [record("t1"), record("e1", "extra", "B")],
        "scenes_train": [record("t1")],
        "scenes_validation": [record("v1")],
        "scenes_test": [record("u1", "unseen")],
        "captions_train": [record("c1", "titled", "C", label="a boat")],
        "captions_validation": [record("c2", "titled", "D", label="a hut")],
        "captions_test": [record("p1", "photographs", "H", True, label="a dog")],
    }
    records = {one["key"]: one for those in drawn.values() for one in those}
    sets = {}
    for name, those in drawn.items():
        kind = "caption" if name.startswith("captions") else "name"
        answers = {kind: {one["label"] for one in those}}
        sets[name] = SetContent({one["key"] for one in those}, answers)
    return records, sets


def test_sound_sets_pass():
    check_drawings(*small_sets())


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        ("train", {"keys": {"t1", "h1"}}, "held out"),
        ("scenes_train", {"keys": {"h1"}}, "held out"),
        ("varied_train", {"keys": {"u1"}}, "vendor"),
        ("varied_train", {"keys": {"v1"}}, "validation"),
        ("train", {"keys": {"t1", "u1"}}, "vendor"),
        ("train", {"answers": names("thing H")}, "name in train"),
        ("captions_train", {"answers": {"caption": {"Thing H"}}}, "caption"),
        ("captions_train", {"answers": {"caption": {"A hut"}}}, "titles"),
        ("test_heldout", {"keys": {"t1"}}, "test_heldout"),
        ("validation", {"keys": {"t1"}}, "validation"),
        ("scenes_validation", {"keys": {"t2"}}, "scenes_validation"),
    ],
)
def test_leaks_of_drawings_are_found(name, change, says):
    records, sets = small_sets()
    sets[name] = dataclasses.replace(sets[name], **change)
    with pytest.raises(LeakError, match=says):
        check_drawings(records, sets)


def small_cells():
    return {
        name: SetContent(
            answers={"reading": {f"{cell.words} word"[:-5], f"{cell.words[:3]} 1"[:3]}},
            families={cell.fonts},
        )
        for name, cell in CELLS.items()
    }


def test_leaks_of_fonts_and_words_are_found():
    check_words(small_cells())
    sets = small_cells()
    sets["test_unseen_fonts_seen_words"].families.add("train")
    with pytest.raises(LeakError, match="fonts"):
        check_words(sets)
    sets = small_cells()
    sets["test_seen_fonts_unseen_words"].answers["reading"].add("new TRAIN")
    with pytest.raises(LeakError, match="words"):
        check_words(sets)


def test_answers_that_can_be_guessed_are_found():
    check_balance("a", {"yesno": collections.Counter(yes=510, no=490)})
    with pytest.raises(LeakError, match=r"0\.600"):
        check_balance("a", {"yesno": collections.Counter(yes=600, no=400)})
    check_balance("a", {"yesno": collections.Counter(yes=6, no=4)})  # too few to tell


def drawing(seed):
    image = np.zeros((24, 24, 4), "uint8")
    image[4:20, 4:20] = [*np.random.default_rng(seed).integers(0, 255, 3), 255]
    return image


def sample_of(seed, **about):
    image = Image.fromarray(drawing(seed))
    return {"tags": [], "keywords": [], **about}, encode_webp(image)


def test_sets_are_written_of_the_emoji_data(tmp_path):
    kinds = {"train": False, "val_seen": False, "test": False, "heldout": True}
    for split, heldout in kinds.items():
        rows = [
            sample_of(n, **record(f"{split}_{n}", split, f"F{n}", heldout and n > -1))
            for n in range(4)
        ]
        if split == "test":
            rows.append(sample_of(9, **record("test_9", "test", "F9", True)))
        write_shards(tmp_path, split, rows)
    write_drawings(tmp_path, tmp_path / "out")
    for name, count in {"train": 4, "test_vendor": 4, "test_vendor_heldout": 1}.items():
        assert len(TarShards(str(tmp_path / "out" / f"{name}-00000.tar"))) == count
    assert read_set(tmp_path / "out", "test_heldout").keys == {
        f"heldout_{n}" for n in range(4)
    }
    things = cut_outs(*read_drawings(tmp_path, "train", heldout=False))
    assert [thing.name for thing in things] == [f"thing f{n}" for n in range(4)]
    assert things[0].image.size == (16, 16)
    assert {thing.kind for thing in things} == {"mammal"}


def test_emoji_of_all_training_vendors_are_varied(tmp_path):
    rows = [sample_of(n, **record(f"a.{n}", "a", f"F{n}", concept=n)) for n in range(4)]
    extra = [
        sample_of(5, **record("b_1", "b", "F1", concept=1)),
        sample_of(6, **record("icons_1", "icons", "", concept=100_001)),
        sample_of(7, **record("titled", "openclipart", "F2", concept=2)),
    ]
    write_shards(tmp_path, "train", rows)
    write_shards(tmp_path, "extra_train", extra)
    write_varied(tmp_path, tmp_path / "out")
    found = list(TarShards(str(tmp_path / "out" / "varied_train-00000.tar")))
    assert len(found) == 5 * 8
    keys = [sample["__key__"] for sample in found]
    assert sorted({key.rsplit("-", 1)[0] for key in keys}) == [
        "a-0", "a-1", "a-2", "a-3", "b_1",
    ]  # fmt: skip
    pictures = [s["png"] for s in found if s["__key__"].startswith("a-0")]
    assert len(set(pictures)) == 8
    asked = {
        tuple(question.question for question in questions_of(sample))
        for sample in found
        if sample["__key__"].startswith("a-0")
    }
    assert len(asked) > 1
    shown = read_set(tmp_path / "out", "varied_train")
    assert shown.keys == {"a.0", "a.1", "a.2", "a.3", "b_1"}
    assert shown.answers["name"] == {f"thing f{n}" for n in range(4)}


def test_titles_are_split_and_photographs_tested(tmp_path):
    titled = [
        sample_of(
            n,
            **record(f"openclipart_{n}", "openclipart", "", label=f"title {n // 2}"),
        )
        for n in range(160)
    ]
    other = sample_of(99, **record("icons_1", "icons", "", label="icon"))
    write_shards(tmp_path, "extra_train", [*titled, other])
    photograph = sample_of(7, **record("p.1", "tuxpaint"), description="A frog.")
    write_shards(tmp_path, "tuxpaint", [photograph])
    sets = caption_sets(tmp_path, 16)
    assert sum(map(len, sets.values())) == 161
    titles = [
        {questions_of(sample)[0].answer for sample in sets[f"captions_{part}"]}
        for part in ("train", "validation")
    ]
    assert all(titles)
    assert not titles[0] & titles[1]
    (test,) = sets["captions_test"]
    assert questions_of(test)[0].answer == "A frog."
    write_question_shards(tmp_path / "out", "captions_test", sets["captions_test"])
    assert read_set(tmp_path / "out", "captions_test").keys == {"p.1"}
