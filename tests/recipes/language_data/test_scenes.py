"""Scenes: their answers are right, and can't be guessed from the question."""

import collections
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageColor, ImageOps

from keras_pe.data import TarShards
from keras_pe.data.questions import questions_of, write_question_shards
from keras_pe.evaluation.language import parse_box
from recipes.language_data.__main__ import main
from recipes.language_data.answer_table import (
    answer_counts,
    answer_table,
    set_samples,
    top_share,
)
from recipes.language_data.colours import BACKGROUNDS, PAINTS, painted
from recipes.language_data.scene_images import compose, cropped, read_cut_outs
from recipes.language_data.scenes import (
    PHRASES,
    CutOuts,
    direction_of,
    scene_samples,
)
from tests.recipes.language_data.small_cut_outs import THINGS, cut_out, cut_outs

pytestmark = [pytest.mark.quick, pytest.mark.once]

COUNT = 240
NAMES = sorted(THINGS, key=len, reverse=True)


@pytest.fixture(scope="module")
def scenes():
    return list(scene_samples(cut_outs(), COUNT, 48, seed=5))


def asked_of(samples, kind):
    """Yields the questions of a kind with what is in the picture."""
    for sample in samples:
        things = json.loads(sample["json"])["things"]
        image = Image.open(io.BytesIO(sample["png"]))
        for question in questions_of(sample):
            if question.kind == kind:
                yield question, things, image


def named_in(text, names=NAMES):
    """Returns the names in a text, in its order."""
    return sorted((n for n in names if n in text), key=text.index)


def test_things_are_seen_where_they_are_said_to_be(scenes):
    looked_at = 0
    for question, things, image in asked_of(scenes, "grounding"):
        pixels = np.asarray(image, "int32")
        (name,) = named_in(question.question)
        colour = ImageColor.getrgb(THINGS[name][1])
        left, top, right, bottom = (
            round(48 * share + 0.02) for share in parse_box(question.answer)
        )
        inner = pixels[top + 1 : bottom - 1, left + 1 : right - 1]
        near = (np.abs(inner - colour).max(-1) < 60).mean()
        assert near > 0.6
        (box,) = (thing["box"] for thing in things if thing["name"] == name)
        assert np.abs(np.array(box) - (left, top, right, bottom)).max() <= 1
        looked_at += 1
    assert looked_at > 100


def test_counts_are_right_and_come_equally_often(scenes):
    counts = collections.defaultdict(collections.Counter)
    kinds = {kind for kind, *_ in THINGS.values()}
    for question, things, _ in asked_of(scenes, "count"):
        kind = named_in(question.question, kinds)
        name = named_in(question.question)
        if kind:
            right = sum(thing["kind"] == kind[0] for thing in things)
        elif name:
            right = sum(thing["name"] == name[0] for thing in things)
        else:
            right = len(things)
        assert question.answer == str(right)
        counts["kind" if kind else "name" if name else "all"][right] += 1
    assert set(counts["all"]) == {1, 2, 3, 4}
    assert set(counts["name"]) == {0, 1, 2, 3}
    for those in counts.values():
        assert top_share(those) < 0.5


def test_directions_are_right_and_come_equally_often(scenes):
    said = collections.Counter()
    for question, things, _ in asked_of(scenes, "position"):
        first, second = named_in(question.question)
        boxes = {thing["name"]: thing["box"] for thing in things}
        assert direction_of(boxes[first], boxes[second]) == question.answer
        said[question.answer] += 1
    assert len(said) == 4
    assert top_share(said) < 0.4
    yes = collections.Counter()
    for question, things, _ in asked_of(scenes, "relation"):
        first, second = named_in(question.question)
        boxes = {thing["name"]: thing["box"] for thing in things}
        direction = direction_of(boxes[first], boxes[second])
        right = f" {PHRASES[direction]} the" in question.question
        assert question.answer == ("yes" if right else "no")
        yes[question.answer] += 1
    assert top_share(yes) < 0.65


def test_what_is_shown_is_said_to_be(scenes):
    yes = collections.Counter()
    for question, things, _ in asked_of(scenes, "yesno"):
        (name,) = named_in(question.question)
        there = name in {thing["name"] for thing in things}
        assert question.answer == ("yes" if there else "no")
        yes[question.answer] += 1
    assert top_share(yes) < 0.65


def test_colours_are_those_that_are_seen(scenes):
    for question, things, image in asked_of(scenes, "colour"):
        wanted = np.array(BACKGROUNDS[question.answer])
        name = named_in(question.question)
        if name:
            assert question.answer in PAINTS
            (box,) = (thing["box"] for thing in things if thing["name"] == name[0])
            left, top, right, bottom = box
            seen = image.getpixel(((left + right) // 2, (top + bottom) // 2))
            assert np.abs(wanted - seen).max() < 80
        else:
            pixels = np.asarray(image, "int32").reshape(-1, 3)
            assert (np.abs(pixels - wanted).max(-1) < 15).mean() > 0.4


def test_a_family_is_shown_once_and_no_name_twice_but_where_it_is_counted(scenes):
    for sample in scenes:
        names = [thing["name"] for thing in json.loads(sample["json"])["things"]]
        if any(question.kind == "position" for question in questions_of(sample)):
            assert len(set(names)) == len(names)
            assert not {"tall box", "high box"} <= set(names)


def test_a_scene_depends_on_its_number_alone(scenes):
    assert list(scene_samples(cut_outs(), 3, 48, seed=5)) == scenes[:3]
    assert list(scene_samples(cut_outs(), 3, 48, seed=6)) != scenes[:3]


def test_too_few_things_are_refused():
    with pytest.raises(ValueError, match="4 things"):
        CutOuts([cut_out(n) for n in ("disc", "ring", "tall box", "high box", "bar")])


@pytest.mark.parametrize(
    ("one", "other", "direction"),
    [
        ((0, 0, 4, 4), (5, 0, 9, 4), "left"),
        ((5, 0, 9, 4), (0, 1, 4, 5), "right"),
        ((0, 0, 9, 4), (0, 4, 9, 8), "above"),
        ((0, 9, 4, 12), (0, 0, 4, 4), "below"),
        ((0, 0, 4, 4), (5, 5, 9, 9), None),  # on the diagonal
        ((0, 0, 4, 4), (3, 0, 7, 4), None),  # they overlap
    ],
)
def test_directions(one, other, direction):
    assert direction_of(one, other) == direction


def test_things_do_not_cover_each_other():
    rng, ground = np.random.default_rng(0), np.full((64, 64, 3), 128.0)
    things = [cut_out(name) for name in ("disc", "ring", "square", "bar")]
    for _ in range(10):
        scene = compose(things, 64, lambda: ground, rng)
        covered = np.zeros((64, 64), int)
        for left, top, right, bottom in scene.boxes:
            covered[top:bottom, left:right] += 1
        assert covered.max() == 1
    pale = [cut_out("disc"), cut_out("ring")]
    red = np.broadcast_to(np.array(ImageColor.getrgb("red"), float), (64, 64, 3))
    assert compose(pale, 64, lambda: red, rng) is None  # the disc would not be seen
    assert compose(things, 64, lambda: ground, rng, lambda boxes: False) is None


def test_paint_keeps_the_shape():
    image = cut_out("disc").image
    blue = painted(image, "blue")
    assert blue.getchannel("A").tobytes() == image.getchannel("A").tobytes()
    red, green, much_blue, _ = blue.getpixel((12, 12))
    assert much_blue > 2 * max(red, green)


def test_cut_outs_are_read_and_the_others_named(tmp_path):
    (tmp_path / "an_animal" / "big_cat").mkdir(parents=True)
    image = cut_out("disc").image
    image.save(tmp_path / "an_animal" / "dog.png")
    image.save(tmp_path / "an_animal" / "big_cat" / "1.webp", lossless=True)
    image.save(tmp_path / "thing.png")
    image.convert("RGB").save(tmp_path / "opaque.png")
    (tmp_path / "text.png").write_text("no image")
    found, refused = read_cut_outs(tmp_path)
    assert [(thing.kind, thing.name) for thing in found] == [
        ("an animal", "big cat"),
        ("an animal", "dog"),
        ("", "thing"),
    ]
    assert sorted(refused) == ["opaque.png", "text.png"]
    assert found[0].source == "an_animal/big_cat/1.webp"
    with pytest.raises(FileNotFoundError, match="no picture"):
        read_cut_outs(tmp_path / "none")
    assert cropped(Image.new("RGBA", (4, 4))) is None


def test_the_command_writes_scenes(tmp_path, capsys):
    for name, (kind, *_) in THINGS.items():
        folder = tmp_path / "art" / kind
        folder.mkdir(parents=True, exist_ok=True)
        ImageOps.expand(cut_out(name).image, 1).save(folder / f"{name}.png")
    where = ["--cut-outs", f"{tmp_path}/art", "--output", f"{tmp_path}/out"]
    main(["scenes", *where, "--count", "5", "--size", "48", "--name", "mine"])
    assert "8 cut-outs of 8 names" in capsys.readouterr().out
    assert len(TarShards(str(tmp_path / "out" / "mine-00000.tar"))) == 5


def test_the_samples_of_a_set_are_those_of_its_name(scenes, tmp_path):
    for name, count in (("[ab]", 3), ("a", 2)):
        write_question_shards(tmp_path, name, scenes[:count])
    assert len(list(set_samples(tmp_path, "[ab]"))) == 3
    assert len(list(set_samples(tmp_path, "a"))) == 2


def test_answers_are_counted(scenes):
    counts = answer_counts(scenes)
    assert counts["position"].total() == counts["relation"].total()
    table = answer_table({"kind": collections.Counter(a=3, b=1)})
    assert table.splitlines()[1].split() == ["kind", "4", "2", "0.750", "a"]
