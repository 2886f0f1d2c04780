"""Data sets of videos as rows: PVD's shards, tables, folders, lists with hashes."""

import dataclasses
import io
import json
import pickle

import grain
import numpy as np
import pytest

from keras_pe.data import (
    SampleError,
    SplitList,
    SplitListError,
    VideoDataError,
    batches,
    read_kinetics,
    read_msrvtt,
    read_pvd,
    read_webvid,
)
from keras_pe.data.video_rows import text_of
from keras_pe.evaluation.hashes import data_hash
from keras_pe.preprocessing import PEVideoConverter, VideoError
from tests.data.shards import tar_bytes

av = pytest.importorskip("av")
pytestmark = [pytest.mark.slow, pytest.mark.once]


def mp4(level, frames=6):
    """The bytes of a small video of one grey level."""
    stream = io.BytesIO()
    with av.open(stream, "w", format="mp4") as output:
        video = output.add_stream("libx264", rate=10)
        video.width = video.height = 32
        video.pix_fmt = "yuv420p"
        for _ in range(frames):
            image = np.full((32, 32, 3), level, "uint8")
            output.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        output.mux(video.encode())
    return stream.getvalue()


@pytest.fixture(scope="module")
def videos():
    return [mp4(40 * number) for number in range(6)]


def level(row):
    """The grey level of a row's video, as a converter reads it."""
    pixels = PEVideoConverter(16, 2)(row.video)
    return round((float(pixels.mean()) + 1) * 127.5)


# === PVD ===
RECORDS = [
    {"human_caption": "A man runs.", "model_caption": "A person runs on grass."},
    {"human_caption": None, "model_caption": " A lake. ", "keywords": ["lake", "sun"]},
    {"human_caption": "None", "model_caption": None, "category": "Animals"},
    {"model_caption": "Hands.", "duration": 16.5, "video_id": 12, "keywords": "a, b"},
]


def pvd(folder, videos, records=RECORDS, split="train", per_shard=2):
    """Writes shards as they are published."""
    place = folder / split
    place.mkdir(parents=True)
    for start in range(0, len(records), per_shard):
        members = []
        for number in range(start, min(start + per_shard, len(records))):
            members.append((f"{number:05d}.mp4", videos[number]))
            said = records[number]
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            members.append((f"{number:05d}.json", content))
        path = place / f"{start // per_shard:06d}.tar"
        path.write_bytes(tar_bytes(members))
    return folder


def test_pvd_rows(tmp_path, videos):
    pvd(tmp_path, videos)
    pvd(tmp_path, videos, RECORDS[:1], split="test")
    rows = read_pvd(tmp_path)
    assert len(rows) == 5
    assert [row.split for row in rows] == ["train"] * 4 + ["test"]
    assert [row.captions for row in rows] == [
        ("A man runs.", "A person runs on grass."),
        ("A lake.",),
        (),
        ("Hands.",),
        ("A man runs.", "A person runs on grass."),
    ]
    assert rows[3].duration == 16.5
    assert rows[1].metadata["keywords"] == ["lake", "sun"]
    assert rows[3].key == "00003"
    assert rows.describe(3) == f"00003 (00003 in {tmp_path}/train/000001.tar)"
    # Luma has 16 to 235: a level of 40 comes back as it was, about.
    assert [abs(level(row) - 40 * n) <= 3 for n, row in enumerate(rows[:4])] == [
        True
    ] * 4
    assert rows[-1].split == "test"
    with pytest.raises(IndexError, match="expected 0 to 4"):
        rows[5]


def test_captions_that_are_null_are_counted_and_never_a_text(tmp_path, videos):
    rows = read_pvd(pvd(tmp_path, videos))
    report = rows.report()
    assert (report.num_videos, report.without_caption, report.num_captions) == (4, 1, 4)
    assert str(report) == "4 videos (4 train); 1 without a caption (00002)"
    with pytest.raises(SampleError, match=r"no caption\. 00002 .* has none"):
        _ = rows[2].caption
    human = read_pvd(tmp_path, captions="human_caption")
    assert [row.captions for row in human] == [("A man runs.",), (), (), ()]
    assert len(rows.with_captions()) == 3
    for nothing in (None, float("nan"), "", "  ", "None", "null", "NaN", 3, ["a"]):
        assert text_of(nothing) is None


def test_splits_of_pvd_are_named(tmp_path, videos):
    pvd(tmp_path, videos)
    pvd(tmp_path, videos, RECORDS[:3], split="extended")
    rows = read_pvd(tmp_path)
    assert rows.report().by_split == {"train": 4, "extended": 3}
    assert len(rows.of_split("extended")) == 3
    assert len(read_pvd(tmp_path, "train")) == 4
    for wrong in (lambda: rows.of_split("test"), lambda: read_pvd(tmp_path, "val")):
        with pytest.raises(VideoDataError, match=r"test|val"):
            wrong()
    with pytest.raises(FileNotFoundError, match=r"No tar shards in .*test"):
        read_pvd(tmp_path, "test")
    with pytest.raises(FileNotFoundError, match="none of the folders train, test"):
        read_pvd(tmp_path / "train")


@pytest.mark.parametrize(
    ("record", "said"),
    [
        ({"human_caption": 3}, "human_caption is 3; expected a text, or null"),
        (
            {"human_caption": "a", "keywords": [1]},
            r"keywords is \[1\]; expected",
        ),
        ({"duration": "long"}, "duration is 'long'; expected seconds"),
        ({"duration": True}, "duration is True"),
        (b"[1]", "holds a list; expected an object"),
        (b"{", "its .json is no JSON"),
    ],
)
def test_what_is_wrong_in_pvd_is_named_by_shard_and_sample(
    tmp_path, videos, record, said
):
    rows = read_pvd(pvd(tmp_path, videos, [RECORDS[0], record]))
    assert rows[0].captions
    with pytest.raises(VideoDataError, match=said) as caught:
        rows[1]
    assert f"00001 in {tmp_path}/train/000000.tar" in str(caught.value)


@pytest.mark.parametrize(
    ("duration", "expected"),
    [("null", None), ("NaN", None), ("2", 2.0), ("0.5", 0.5), ("0", 0.0)],
)
def test_durations_of_pvd(tmp_path, videos, duration, expected):
    assert read_pvd(one_sample(tmp_path, videos, duration))[0].duration == expected


@pytest.mark.parametrize("duration", ["1e999", "-3", "1" + "0" * 400, "true", '"2"'])
def test_durations_of_pvd_that_are_none(tmp_path, videos, duration):
    rows = read_pvd(one_sample(tmp_path, videos, duration))
    with pytest.raises(
        VideoDataError, match=r"duration is .*expected seconds, or null"
    ):
        rows[0]


@pytest.mark.parametrize(
    "options",
    [
        {"splits": []},
        {"splits": 5},
        {"splits": ["val"]},
        {"captions": []},
        {"captions": ""},
        {"captions": [3]},
        {"captions": 5},
    ],
)
def test_nothing_of_pvd_is_asked_for(tmp_path, videos, options):
    (name,) = options
    with pytest.raises(VideoDataError, match=f"{name}=.*expected"):
        read_pvd(one_sample(tmp_path, videos, "1"), **options)


def one_sample(folder, videos, duration):
    """Writes a shard of one video, whose JSON has this duration as it is."""
    (folder / "test").mkdir()
    said = f'{{"human_caption": "x", "duration": {duration}}}'.encode()
    members = ("0.mp4", videos[0]), ("0.json", said)
    (folder / "test" / "0.tar").write_bytes(tar_bytes(members))
    return folder


def test_a_sample_without_a_video_is_named(tmp_path, videos):
    place = tmp_path / "test"
    place.mkdir()
    (place / "0.tar").write_bytes(tar_bytes([("7.json", b'{"human_caption": "a"}')]))
    row = read_pvd(tmp_path)[0]
    with pytest.raises((VideoError, ValueError), match=r"7 in .*0\.tar"):
        row.video.read()
    (place / "0.tar").write_bytes(tar_bytes([("7.mp4", videos[0])]))
    with pytest.raises(VideoDataError, match=r"no sample has \['json'\]"):
        read_pvd(tmp_path)


def test_rows_are_batched_by_the_loader(tmp_path, videos):
    rows = pickle.loads(pickle.dumps(read_pvd(pvd(tmp_path, videos))))
    converter = PEVideoConverter(16, 2)

    def sample(row):
        return {"video": converter.convert(row.video), "key": row.key}

    dataset = grain.MapDataset.source(rows).map(sample).batch(2)
    with batches(dataset, num_threads=2) as loader:
        found = list(loader)
    assert [batch["video"].shape for batch in found] == [(2, 2, 16, 16, 3)] * 2
    assert list(found[1]["key"]) == ["00002", "00003"]


# === Tables and folders ===
def table(folder, text, names, videos):
    """Writes a table, and a folder of videos."""
    place = folder / "clips"
    for number, name in enumerate(names):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(videos[number])
    path = folder / "list.csv"
    path.write_text(text)
    return path, place


def test_several_sentences_of_a_video(tmp_path, videos):
    text = (
        "video_id,sentence,category\n"
        "video1,a man runs,3\n"
        'video0,"a lake, a hill",1\n'
        "video1,a race,3\n"
        "video1,a race,3\n"
        "video2,None,1\n"
    )
    names = ["video0.mp4", "video1.mp4", "video2.mp4"]
    rows = read_msrvtt(*table(tmp_path, text, names, videos), split="test")
    assert [(row.key, row.captions) for row in rows] == [
        ("video1", ("a man runs", "a race")),
        ("video0", ("a lake, a hill",)),
        ("video2", ()),
    ]
    assert rows[0].metadata == {"category": "3"}
    assert rows[1].place == "line 3 of list.csv"
    assert abs(level(rows[0]) - 40) <= 3
    assert str(rows.report()) == "3 videos (3 test); 1 without a caption (video2)"


def test_files_that_are_missing_are_named_with_their_rows(tmp_path, videos):
    text = "video_id,sentence\nvideo0,a\nvideo1,b\nvideo2,c\n"
    given = table(tmp_path, text, ["video1.mp4"], videos)
    with pytest.raises(FileNotFoundError, match=r"2 of 3 .*video0\.mp4 \(line 2"):
        read_msrvtt(*given)
    rows = read_msrvtt(*given, on_missing="skip")
    assert [row.key for row in rows] == ["video1"]
    assert "2 listed without a file" in str(rows.report())
    with pytest.raises(ValueError, match="on_missing='warn'"):
        read_msrvtt(*given, on_missing="warn")
    (given[1] / "video1.mp4").unlink()
    with pytest.raises(VideoDataError, match="None of the 3 videos"):
        read_msrvtt(*given, on_missing="skip")


WEBVID = "videoid,contentUrl,duration,page_dir,name\n"


def test_webvid(tmp_path, videos):
    text = WEBVID + (
        "11,https://e.org/11.mp4,PT00H00M16S,000_050,A lake.\n"
        "12,https://e.org/12.mp4,PT1H0M2.5S,000_050,\n"
        "13,,7.25,,Hands\n"
    )
    names = ["000_050/11.mp4", "000_050/12.mp4", "13.mp4"]
    rows = read_webvid(*table(tmp_path, text, names, videos))
    assert [row.duration for row in rows] == [16.0, 3602.5, 7.25]
    assert [row.captions for row in rows] == [("A lake.",), (), ("Hands",)]
    assert rows[0].metadata["contentUrl"] == "https://e.org/11.mp4"
    assert abs(level(rows[1]) - 40) <= 3


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (read_msrvtt, "video,sentence\na,b\n", "has no column video_id"),
        (read_msrvtt, "video_id,sentence\n,b\n", "line 2 of list.csv has no video_id"),
        (read_msrvtt, "video_id,sentence\n../../x,b\n", "line 2 .* leads out of the"),
        (read_msrvtt, "video_id,sentence\n/etc/x,b\n", "leads out of the folder"),
        (read_msrvtt, "video_id,sentence\na,b,c\n", "line 2: 3 fields under 2"),
        (read_msrvtt, "video_id,sentence\n", "has no rows"),
        (read_webvid, WEBVID + "1,,PT,p,n\n", "line 2 .*: duration 'PT'; expected sec"),
        (read_webvid, WEBVID + "1,,-3,p,n\n", "duration '-3'"),
        (
            read_webvid,
            WEBVID + "1,,3,p,n\n1,,3,p,n\n",
            "line 3 .* repeats videoid 1",
        ),
        (read_webvid, WEBVID + "1,,inf,p,n\n", "duration 'inf'"),
        (read_webvid, WEBVID + "1,,3,../p,n\n", r"page_dir '\.\./p' leads out"),
    ],
)
def test_what_is_wrong_in_a_table_is_named_by_line(tmp_path, videos, read, text, said):
    with pytest.raises(VideoDataError, match=said):
        read(*table(tmp_path, text, ["a.mp4"], videos))


def test_numbers_and_holes_of_tables(tmp_path, videos):
    (tmp_path / "p").mkdir()
    for name in ("0.mp4", "p/0.mp4"):
        (tmp_path / name).write_bytes(videos[0])
    path = tmp_path / "list.jsonl"

    def read(reader, **row):
        path.write_text(json.dumps(row) + "\n")
        return reader(path, tmp_path)[0]

    row = read(read_msrvtt, video_id=0, sentence="x")
    assert (row.key, row.captions) == ("0", ("x",))
    assert read(read_msrvtt, video_id=0, sentence=float("nan")).captions == ()
    for wrong in (["a", "b"], 5, True):
        with pytest.raises(
            VideoDataError, match=r"line 1 .*sentence is .*expected a t"
        ):
            read(read_msrvtt, video_id=0, sentence=wrong)
    for wrong in (None, float("nan"), ["0"], True, " "):
        with pytest.raises(VideoDataError, match=r"line 1 .*has no video_id"):
            read(read_msrvtt, video_id=wrong, sentence="x")
    for hole in (None, float("nan"), "", "NaN", "None"):
        row = read(read_webvid, videoid=0, page_dir="p", name="x", duration=hole)
        assert row.duration is None


def test_folders_of_classes(tmp_path, videos):
    names = ["long_jump/abcdefghijk_000012_000022.mp4", "run/b.mp4", "run/a.webm"]
    for number, name in enumerate(names):
        path = tmp_path / "val" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(videos[number])
    rows = read_kinetics(tmp_path, split="val")
    assert [(row.key, row.class_name, row.split) for row in rows] == [
        (names[0], "long jump", "val"),
        ("run/a.webm", "run", "val"),
        ("run/b.mp4", "run", "val"),
    ]
    assert (rows[0].duration, rows[1].duration) == (10.0, None)
    assert rows[0].metadata == {"youtube_id": "abcdefghijk", "start": 12.0, "end": 22.0}
    assert len(read_kinetics(tmp_path / "val")) == 3
    with pytest.raises(FileNotFoundError, match=r"No folder .*test"):
        read_kinetics(tmp_path, split="test")
    with pytest.raises(VideoDataError, match="no folders with videos"):
        read_kinetics(tmp_path / "val" / "run")


# === Lists with hashes ===
@pytest.fixture
def rows(tmp_path, videos):
    text = "video_id,sentence\nv0,a\nv1,b\nv2,c\n"
    return read_msrvtt(*table(tmp_path, text, ["v0.mp4", "v1.mp4", "v2.mp4"], videos))


def test_a_list_takes_the_same_videos(tmp_path, rows, videos):
    made = SplitList.of(rows, "mine")
    made.save(tmp_path / "mine.json")
    read = SplitList.load(tmp_path / "mine.json")
    assert read == made
    read.check(rows)
    assert [row.key for row in read.select(rows[::-1])] == ["v0", "v1", "v2"]
    # Shards hold the same files: the same list.
    folder = tmp_path / "shards"
    folder.mkdir()
    said = [{"human_caption": text} for text in "abc"]
    shards = read_pvd(pvd(folder, videos, said))
    assert [v.sha256 for v in SplitList.of(shards, "x").videos] == [
        v.sha256 for v in made.videos
    ]
    assert data_hash([r.video for r in shards], []) == data_hash(
        [r.video for r in rows], []
    )


def test_a_list_refuses_others(tmp_path, rows, videos):
    listed = SplitList.of(rows, "mine")
    few = SplitList.of(rows[:2], "few")
    with pytest.raises(SplitListError, match=r"number 1 is v2, expected v1\. All 3"):
        listed.check([rows[0], rows[2], rows[1]])
    with pytest.raises(SplitListError, match="number 2 is missing, expected v2"):
        listed.check(rows[:2])
    with pytest.raises(SplitListError, match=r"1 more follow, .* v2.* among others"):
        few.check(rows)
    with pytest.raises(SplitListError, match="1 of 3 are missing, the first v2"):
        listed.select(rows[:2])
    assert len(few.select(rows)) == 2
    other = dataclasses.replace(rows[1], captions=("z",))
    with pytest.raises(SplitListError, match="captions or class of v1"):
        listed.check([rows[0], other, rows[2]])
    with pytest.raises(SplitListError, match="Two rows have the key 'v0'"):
        SplitList.of([rows[0], rows[0]], "twice")
    with open(rows[2].video, "wb") as file:
        file.write(videos[5])
    with pytest.raises(SplitListError, match=r"file of v2 \(number 2\) has the SHA"):
        listed.check(rows)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text[:-20], "is no list of videos"),
        (lambda text: text.replace('"v1"', '"v9"'), "was changed after it was written"),
        (lambda text: text.replace('"format": 1', '"format": 7'), "has format 7"),
        (lambda text: "[]", "is no list of videos"),
    ],
)
def test_a_list_that_is_damaged_is_refused(tmp_path, rows, change, said):
    path = tmp_path / "mine.json"
    SplitList.of(rows, "mine").save(path)
    path.write_text(change(path.read_text()))
    with pytest.raises(SplitListError, match=said):
        SplitList.load(path)
