"""The video experiment: its clips, captions, scores, and a run from end to end."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageSequence

pytest.importorskip("grain", reason="part of keras-pe[train]")

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.data_engine import clips_of_folder
from keras_pe.data_engine.clips import with_content
from projects.emoji.evaluation import evaluate, plain_classes
from projects.emoji.video import animations, motions
from projects.emoji.video.conditions import (
    CONDITIONS,
    SUMMARIES,
    check_summaries,
    read_rows,
    with_frames,
    with_tags,
    write_condition,
)
from projects.emoji.video.scores import (
    GROUPS,
    MOTION_NAMES,
    TestClips,
    as_arrays,
    as_lists,
    clip_loss,
    drawing_hits,
    gain,
    motion_hits,
    name_hits,
)
from projects.emoji.video.tables import TABLES, as_markdown, hits_of, summary
from tests.projects.emoji.small_emoji import VENDORS, write_small_emoji

PRESET = "pe_core_emoji_small_patch8_64"


def animation(count, colour="red", size=48):
    """An animation of a square that moves, with an alpha channel."""
    frames = []
    for number in range(count):
        frame = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        frame.paste(Image.new("RGBA", (12, 12), colour), (2 * number, 10))
        frames.append(frame)
    file = io.BytesIO()
    more = {"save_all": True, "append_images": frames[1:]} if count > 1 else {}
    frames[0].save(file, "PNG", **more)
    return file.getvalue()


def drawing(colour="red"):
    """A drawing that no turn and no mirror leaves as it is."""
    image = Image.new("RGBA", (40, 30), colour)
    image.paste(Image.new("RGBA", (10, 10), "blue"), (0, 0))
    return image


@pytest.fixture
def clips(tmp_path):
    """Three clips of every motion, of two colours."""
    folder = tmp_path / "motions"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for colour in ("red", "green"):
        for motion in MOTION_NAMES:
            name = f"{colour}-{motion.replace(' ', '_')}"
            frames = motions.draw_clip(drawing(colour), motion, rng)
            (folder / f"{name}.webp").write_bytes(animations.to_webp(frames))
            said = {
                "title": f"{colour} square {motion}",
                "name": f"{colour} square",
                "motion": motion,
                "family": name,
            }
            (folder / f"{name}.json").write_text(json.dumps(said))
    return folder


@pytest.mark.once
def test_every_third_frame_of_an_animation_on_white():
    frames = animations.frames_of(animation(9))
    assert len(frames) == 3
    assert frames[0].size == (animations.SIZE, animations.SIZE)
    assert frames[0].getpixel((90, 90)) == (255, 255, 255)
    again = animations.to_webp(frames)
    found = list(ImageSequence.Iterator(Image.open(io.BytesIO(again))))
    assert len(found) == 3
    assert len(animations.frames_of(animation(1))) == 1


@pytest.mark.once
@pytest.mark.parametrize("motion", MOTION_NAMES)
def test_a_motion_is_what_it_is_called(motion):
    frames = motions.draw_clip(drawing(), motion, np.random.default_rng(1))
    drawn = [_drawn(np.asarray(frame, "int64")) for frame in frames]
    first, last = drawn[0], drawn[-1]
    if motion == "stands still":
        assert all((np.asarray(f) == np.asarray(frames[0])).all() for f in frames)
    elif motion.startswith("moves"):
        right, down = last[0] - first[0], last[1] - first[1]
        way = {"right": right, "left": -right, "down": down, "up": -down}
        assert way[motion.split()[1]] > 20
    elif motion in ("grows", "shrinks"):
        assert (last[2] > 2 * first[2]) == (motion == "grows")
    elif motion in ("appears", "disappears"):
        assert (last[2] > first[2]) == (motion == "appears")
    else:
        quarter = len(frames) // 4
        assert not (np.asarray(frames[quarter]) == np.asarray(frames[0])).all()


def _drawn(pixels):
    """Returns the middle of what is not background, right and down, and its size."""
    mask = np.abs(pixels - pixels[0, 0]).sum(-1) > 60
    if not mask.any():
        return 0.0, 0.0, 0
    down, right = np.nonzero(mask)
    return right.mean(), down.mean(), int(mask.sum())


@pytest.mark.once
def test_captions_of_conditions(tmp_path, clips):
    engine = tmp_path / "engine"
    engine.mkdir()
    rows = [with_content(row) for row in clips_of_folder(clips)]
    lines = [
        {**row, "refined_caption": "a square", "frame_captions": ["red", "red", "x"]}
        for row in rows
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (engine / "rows.jsonl").write_text(text)
    found = read_rows(clips, engine)
    assert with_frames(found[0]).endswith("; a square; red; x")
    assert with_tags(found[0]) == found[0]["metadata"]["title"]
    joined = [{**row, "caption": with_frames(row)} for row in found]
    with pytest.raises(ValueError, match="one behind the other: for 'summary of all'"):
        check_summaries(engine, joined)
    joined[-1]["caption"] = "A red square moves."
    check_summaries(engine, joined)
    assert CONDITIONS[SUMMARIES].caption(joined[-1]) == "A red square moves."
    (engine / "rows.jsonl").write_text(json.dumps(lines[0]) + "\n")
    with pytest.raises(ValueError, match="knows 1 of the 22 clips"):
        read_rows(clips, engine)


@pytest.mark.once
def test_no_clip_keeps_its_caption_where_they_are_exchanged(tmp_path, clips):
    from keras_pe.data import TarShards

    rows = read_rows(clips)
    write_condition(tmp_path / "own", CONDITIONS["motions"], rows, 0)
    write_condition(tmp_path / "other", CONDITIONS["title of another clip"], rows, 0)
    own, other = (
        [json.loads(s["json"]) for s in TarShards(str(tmp_path / n / "*.tar"))]
        for n in ("own", "other")
    )
    assert [s["video_id"] for s in own] == [s["video_id"] for s in other]
    assert all(a["caption"] != b["caption"] for a, b in zip(own, other, strict=True))
    assert {s["caption"] for s in own} == {s["caption"] for s in other}


def test_scores_and_what_a_mean_cannot_see(clips):
    model = PECore.from_preset(PRESET)
    tokenizer = PETokenizer.from_preset(PRESET)
    tests = TestClips(clips, 64)
    found = name_hits(model, tokenizer, tests)
    for way in ("backwards", "shuffled"):
        same = found[f"text to clip, {way}"] == found["text to clip, mean"]
        assert same.mean() > 0.95  # but for ties and rounding
    moves = motion_hits(model, tokenizer, tests)
    assert len(moves["motion, mean"]) == 22
    assert len(moves["forwards or backwards, mean"]) == 20  # none stands still
    assert as_arrays(as_lists(moves)).keys() == moves.keys()


def test_the_loss_of_clips_tells_a_spoiled_model(clips):
    model = PECore.from_preset(PRESET)
    tokenizer = PETokenizer.from_preset(PRESET)
    tests = TestClips(clips, 64, lambda row: row["metadata"]["name"] == "red square")
    assert len(tests.metadata) == 11
    before = clip_loss(model, tokenizer, tests)
    model.logit_scale.assign(0.0)  # every title as likely as every other, nearly
    assert clip_loss(model, tokenizer, tests) == pytest.approx(np.log(11), abs=0.1)
    tests.frames = tests.frames[::-1].copy()  # clips that belong to other titles
    model.logit_scale.assign(np.log(100.0))
    assert clip_loss(model, tokenizer, tests) > before


def test_drawings_are_told_by_name(tmp_path):
    model = PECore.from_preset(PRESET)
    write_small_emoji(tmp_path)
    splits = {"known vendors": ("val_seen", VENDORS[0])}
    converter = PEImageConverter.from_preset(PRESET)
    tokenizer = PETokenizer.from_preset(PRESET)
    hits = drawing_hits(model, tokenizer, converter, tmp_path, splits)
    (right,) = hits.values()
    assert right.shape == (16,)
    classes = plain_classes(tmp_path, VENDORS[0])
    found = evaluate(model, tokenizer, converter, tmp_path, "val_seen", classes)
    assert right.mean() == pytest.approx(found["all"].top1[0])


@pytest.mark.once
def test_tables_of_scores_and_what_a_part_is_worth():
    rng = np.random.default_rng(0)
    tasks = [task for columns in TABLES.values() for task in columns]

    def scored(share):
        return {"hits": as_lists({task: rng.random(200) < share for task in tasks})}

    found = {
        "before": {0: scored(0.2)},
        "title": {0: scored(0.6), 1: scored(0.6)},
        "title, first frame": {0: scored(0.6)},
    }
    content = summary(hits_of(found))
    title = content["conditions"]["title"]["tasks"]["text to clip, mean"]
    assert title["score"] == pytest.approx(np.mean(title["of each"]))
    assert title["gain"][1] > 0.2
    assert list(content["comparisons"]) == ["eight frames for one"]
    text = as_markdown(content)
    assert "| title | 2 |" in text
    assert text.count("**+") >= len(tasks)  # gains over before are none by chance
    found["title"][1]["hits"]["text to clip, mean"] = "101"
    with pytest.raises(ValueError, match="different clips"):
        hits_of(found)


@pytest.mark.once
def test_groups_and_gains():
    assert GROUPS[MOTION_NAMES.index("grows")] == GROUPS[MOTION_NAMES.index("shrinks")]
    assert len(set(GROUPS)) == 6
    right = np.arange(100) < 60
    assert gain([right], [right]) == (0.0, 0.0, 0.0)
    mean, low, high = gain([right | (np.arange(100) > 79)], [right])
    assert mean == pytest.approx(0.2)
    assert low < 0.2 < high
    assert low > 0
