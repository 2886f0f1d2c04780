"""Data validation: what runs without TensorFlow Data Validation, and the real script.

The script itself needs an environment of its own: `recipes/validate_data.py` says how
to make `.venv-tfdv`. Where it is there, the last test runs it.
"""

import gzip
import io
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("tensorflow_metadata", reason="part of keras-pe[train]")

from google.protobuf import text_format
from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2, statistics_pb2

from recipes import validate_data
from recipes.data_validation import checks, constraints, histograms, report, rows
from recipes.data_validation.checks import DEFAULT_ALLOWED, Thresholds
from recipes.data_validation.image_header import read_header
from recipes.data_validation.rows import Sample, describe, read_samples
from tests.recipes import validation_shards
from tests.recipes.validation_shards import clean_sample, image, tar_bytes

pytestmark = [pytest.mark.quick, pytest.mark.once]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "tests" / "data" / "validation_results"
TFDV_PYTHON = ROOT / ".venv-tfdv" / "bin" / "python"
PIXELS = 10_000_000


def describe_members(thresholds=None, **members):
    return describe(Sample("key", members), thresholds or Thresholds())


def load(name, kind="clean"):
    return statistics_pb2.DatasetFeatureStatisticsList.FromString(
        (RESULTS / kind / name).read_bytes()
    ).datasets[0]


# Images --------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp", "ppm", "tiff"])
def test_the_header_tells_format_and_size(kind):
    data = image(np.random.default_rng(0), 21, 34, kind)
    header = read_header(data, PIXELS)
    assert (header.status, header.format) == ("ok", kind.upper())
    assert (header.width, header.height) == (21, 34)
    assert header == read_header(data, PIXELS, decode_pixels=True)


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "gif", "bmp"])
@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_cut_image_is_found_without_decoding(kind, kept):
    data = image(np.random.default_rng(0), 64, 48, kind)
    assert read_header(data[: int(len(data) * kept)], PIXELS).status == "truncated"


def test_a_jpeg_with_a_thumbnail_is_found_cut_too():
    stream = io.BytesIO()
    thumbnail = image(np.random.default_rng(0), 16, 16)
    whole = Image.open(io.BytesIO(image(np.random.default_rng(1), 64, 48)))
    whole.save(stream, "jpeg", exif=b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0" + thumbnail)
    data = stream.getvalue()
    assert data.count(b"\xff\xd9") > 1
    assert read_header(data, PIXELS).status == "ok"
    assert read_header(data + b"added by a camera", PIXELS).status == "ok"
    assert read_header(data[:-300], PIXELS).status == "truncated"


def test_other_faults_of_images():
    rng = np.random.default_rng(0)
    png = bytearray(image(rng, 64, 48, "png"))
    png[len(png) // 2] ^= 1
    assert read_header(bytes(png), PIXELS).status == "damaged"
    assert read_header(b"", PIXELS).status == "empty"
    assert read_header(b"<html>not found</html>", PIXELS).status == "not an image"
    # A cut PPM has no length of its own: only its pixels tell.
    ppm = image(rng, 64, 48, "ppm")[:-100]
    assert read_header(ppm, PIXELS).status == "ok"
    assert read_header(ppm, PIXELS, decode_pixels=True).status == "damaged"


def test_huge_images_are_judged_but_never_decoded():
    bomb = b"P5 100000 100000 255 " + bytes(10)  # ten gigapixels, ten bytes
    header = read_header(bomb, PIXELS, decode_pixels=True)
    assert header.status == "too many pixels"
    assert describe_members(ppm=bomb).row["image_size"] == "yes"


# Samples ---------------------------------------------------------------------


def read(data):
    return list(read_samples(io.BytesIO(data)))


def test_members_are_grouped_by_key_as_in_webdataset():
    data = tar_bytes(
        [
            ("a/0001", {"JPG": b"1", "seg.png": b"2"}),
            ("b/0001", {"txt": b"3"}),
            ("b/0001", {"txt": b"4"}),
            ("a/0001", {"json": b"5"}),
        ]
    )
    found = [(s.key, s.members, s.key_repeated) for s in read(data)]
    assert found == [
        ("a/0001", {"jpg": b"1", "seg.png": b"2"}, False),
        ("b/0001", {"txt": b"3"}, False),
        ("b/0001", {"txt": b"4"}, True),
        ("a/0001", {"json": b"5"}, True),
    ]
    assert read(gzip.compress(data)) == read(data)


def test_what_is_no_sample_is_passed_over():
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, kind in (("folder.d", tarfile.DIRTYPE), ("a.txt", tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            archive.addfile(info)
        for name in (".hidden", "README"):
            archive.addfile(tarfile.TarInfo(name))
    assert read(stream.getvalue()) == []


@pytest.mark.parametrize(
    "damage", ["cut", "between", "header", "empty", "gzip", "second"]
)
def test_samples_before_the_damage_are_kept(damage):
    whole = tar_bytes([clean_sample(number) for number in range(20)])
    with tarfile.open(fileobj=io.BytesIO(whole)) as archive:
        middle = archive.getmembers()[20].offset
    damaged = {
        "cut": whole[: middle + 700],
        "between": whole[:middle],
        "header": whole[:middle] + b"x" * 512 + whole[middle + 512 :],
        "empty": b"",
        "gzip": gzip.compress(whole, 1)[: len(whole) // 2],
        # tarfile, and training with it, would stop at the first end.
        "second": whole + whole,
    }[damage]
    samples = []
    with pytest.raises(rows.ShardDamageError):
        samples.extend(read_samples(io.BytesIO(damaged)))
    least = {"empty": 0, "gzip": 5, "second": 19}.get(damage, 9)
    assert least <= len(samples) < 20
    assert [sample.key for sample in samples] == [
        f"{n:06d}" for n in range(len(samples))
    ]


def test_a_failing_disk_is_no_damage():
    class Failing(io.RawIOBase):
        def readable(self):
            return True

        def readinto(self, buffer):
            raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        list(read_samples(Failing()))


def test_a_sound_sample_has_no_fault():
    _, members = clean_sample(0)
    described = describe(Sample("000000", members), Thresholds())
    faults = [c.name for c in checks.CHECKS if described.row.get(c.name) == "yes"]
    assert faults == []
    assert described.row["image_format"] == "JPEG"
    assert described.row["num_captions"] == 1
    assert described.row["caption_words"] == [4]
    assert described.captions == ("a red boat 0",)
    assert described.row["json_text_source"] == "camera"
    assert described.row["range_of_caption_words"] == ["4"]


@pytest.mark.parametrize(
    ("members", "faults"),
    [
        ({}, {"caption_missing"}),
        ({"json": b'{"captions": []}'}, {"caption_missing"}),
        ({"json": b'{"caption": 5}'}, {"caption_missing"}),
        ({"json": b'{"caption": null}'}, {"caption_missing"}),
        ({"txt": b" \n"}, {"caption_empty"}),
        ({"json": b'{"captions": ["an owl", ""]}'}, {"caption_empty"}),
        ({"txt": b"owl " * 1000}, {"caption_length"}),
        ({"txt": b"caf\xe9"}, {"caption_missing", "text_unreadable"}),
        ({"txt": b"owl", "json": b"{"}, {"text_unreadable"}),
        ({"txt": b"owl", "json": b"[1]"}, {"text_unreadable"}),
        ({"txt": b"owl", "json": b"[" * 100_000}, {"text_unreadable"}),
        ({"txt": b"owl", "json": None}, {"text_unreadable"}),
        ({"txt": "梟".encode(), "json": b'{"caption": "an owl"}'}, set()),
    ],
)
def test_faults_of_captions(members, faults):
    good = image(np.random.default_rng(0), 40, 40)
    row = describe_members(jpg=good, **members).row
    assert {c.name for c in checks.CHECKS if row.get(c.name) == "yes"} == faults


@pytest.mark.parametrize(
    ("size", "faults"),
    [
        ((31, 40), {"image_size"}),
        ((32, 32), set()),
        ((256, 32), set()),
        ((32, 257), {"image_aspect_ratio"}),
        ((900, 30), {"image_aspect_ratio", "image_size"}),
    ],
)
def test_limits_of_images(size, faults):
    data = image(np.random.default_rng(0), *size, "png")
    row = describe_members(png=data, txt=b"owl").row
    assert {c.name for c in checks.CHECKS if row.get(c.name) == "yes"} == faults


def test_a_member_too_large_to_read_is_a_image_too_large(monkeypatch):
    monkeypatch.setattr(rows, "MOST_MEMBER_BYTES", 100)
    (sample,) = read(tar_bytes([("owl", {"txt": b"owl", "png": bytes(101)})]))
    assert sample.members == {"txt": b"owl", "png": None}
    row = describe(sample, Thresholds()).row
    assert (row["decode_status"], row["image_size"]) == ("too many bytes", "yes")


def test_captions_are_found_where_the_user_says():
    record = {"label": "owl", "keywords": ["bird", "night", 5], "caption": "unused"}
    thresholds = Thresholds(caption_fields=("label", "keywords"))
    found = describe_members(thresholds, json=json.dumps(record).encode())
    assert found.captions == ("owl", "bird", "night")
    # img2dataset writes one caption twice.
    both = describe_members(txt=b"an owl", json=b'{"caption": "an owl"}')
    assert both.captions == ("an owl",)


def test_a_field_that_is_a_number_here_and_a_text_there_is_two_features():
    numbers = describe_members(json=b'{"width": 5, "ok": true, "box": [1]}').row
    texts = describe_members(json=b'{"width": "5 px", "ok": null}').row
    assert numbers["json_number_width"] == 5.0
    assert numbers["json_text_ok"] == "true"
    assert texts["json_text_width"] == "5 px"
    assert not {"json_text_ok", "json_number_ok", "json_text_box"} & set(texts)
    huge = describe_members(json=b'{"n": 1' + b"0" * 400 + b"}").row
    assert huge["json_number_n"] == float("inf")
    only = Thresholds(json_fields=("height",))
    assert "json_number_width" not in describe_members(only, json=b'{"width": 5}').row


def test_repeats_are_told_by_digests():
    first = describe_members(png=image(np.random.default_rng(0), 40, 40, "png"))
    again = describe_members(png=image(np.random.default_rng(0), 40, 40, "png"))
    other = describe_members(png=image(np.random.default_rng(1), 40, 40, "png"))
    assert first.image_digest == again.image_digest != other.image_digest
    assert describe_members(png=b"").image_digest is None
    digest = rows.digest_of_caption
    assert digest("An  owl\n") == digest("an owl") != digest("an owl!")
    assert len(digest("half of a pair: \ud800")) == 16


def test_ranges_keep_small_integers_apart_and_their_order():
    ranges = [rows.range_of(number) for number in range(9)]
    assert ranges[:5] == ["0", "1", "2", "2.83", "4"]
    assert len(set(ranges)) == 9
    numbers = np.geomspace(1e-3, 1e9, 500)
    lower = [float(rows.range_of(number)) for number in numbers]
    assert lower == sorted(lower)
    assert np.all(np.array(lower) <= numbers * 1.01)
    assert np.all(np.array(lower) * 1.2 >= numbers)
    assert rows.range_of(float("nan")) == "nan"
    assert rows.range_of(float("-inf")) == rows.range_of(-1e12)


# Limits, reports and the command line ------------------------------------------


def test_verdicts_over_the_whole_data_set_become_features():
    dataset = statistics_pb2.DatasetFeatureStatistics(num_examples=10)
    repeats = {"image_repeated": {"total": 10, "distinct": 7, "most": []}}
    constraints.add_verdicts(dataset, repeats, [{"damage": ""}, {"damage": "cut"}])
    found = {c.name: constraints.counts_of(dataset, c) for c in checks.CHECKS}
    assert found["image_repeated"] == (3, 10)
    assert found["shard_unreadable"] == (1, 2)
    assert found["caption_repeated"] == (0, 0)


def test_shares_of_an_earlier_schema_stay_unless_given():
    schema = text_format.Parse(
        (RESULTS / "clean" / "schema.pbtxt").read_bytes(), schema_pb2.Schema()
    )
    before = constraints.allowed_by(schema)
    shares = {k: v for k, v in DEFAULT_ALLOWED.items() if k != "json_values"}
    assert before == pytest.approx(shares)
    constraints.allow(schema, {"caption_empty": 0.25, "json_values": 0.5})
    after = constraints.allowed_by(schema)
    assert after == pytest.approx(shares | {"caption_empty": 0.25})
    source = next(f for f in schema.feature if f.name == "json_text_source")
    assert source.presence.min_fraction == 0.5
    assert source.distribution_constraints.min_domain_mass == 0.5


def test_texts_of_the_data_cannot_break_the_report():
    dataset = load("stats.pb", "damaged")
    results = RESULTS / "damaged"
    anomalies = text_format.Parse(
        (results / "anomalies.pbtxt").read_bytes(), anomalies_pb2.Anomalies()
    )
    schema = text_format.Parse(
        (results / "schema.pbtxt").read_bytes(), schema_pb2.Schema()
    )
    data = json.loads((results / "data.json").read_text())
    evil = "<script>x</script> | [a](b)\n# head `code`"
    page = report.write_report(
        dataset,
        schema,
        anomalies,
        data,
        {"caption_empty": [evil]},
        {"caption_repeated": {"total": 2, "distinct": 1, "most": [(2, evil)]}},
        "clean",
    )
    assert "**20 anomalies.**" in page
    assert (
        "| caption_empty | samples with captions that have a blank one | 5 of" in page
    )
    assert "| 4.065% | 0.100% | **anomaly** |" in page
    assert "<script>" not in page
    assert "[a](b)" not in page
    tables = [line for line in page.splitlines() if line.startswith("| caption_")]
    assert len(tables) >= 6
    assert not any(line.startswith("# head") for line in page.splitlines())


def test_histograms_show_every_number_and_the_baseline():
    alone = histograms.draw_histograms(load("stats.pb"))
    both = histograms.draw_histograms(load("stats.pb", "damaged"), load("stats.pb"))
    for name in (*rows.INTEGER_FEATURES, "image_aspect_ratio", "json_number_score"):
        assert f">{name}</text>" in alone
    assert alone.count("<polyline") == 0
    assert both.count("<polyline") == both.count("<g ") > 5
    empty = histograms.draw_histograms(statistics_pb2.DatasetFeatureStatistics())
    assert empty.startswith("<svg")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--allow", "caption_empty"], "expected CHECK=SHARE"),
        (["--allow", "captions=0.1"], "expected CHECK=SHARE"),
        (["--allow", "caption_empty=2"], "expected a share from 0 to 1"),
        (["--allow", "caption_empty=few"], "expected a share from 0 to 1"),
        (["--least-sides", "9"], "unknown arguments: --least-sides"),
        (["--runner", "HomeMade"], "invalid choice"),
    ],
)
def test_wrong_arguments_are_refused(capsys, arguments, words):
    with pytest.raises(SystemExit) as caught:
        validate_data.main(["a.tar", "--output", "o", *arguments])
    assert caught.value.code == 2
    assert words in capsys.readouterr().err


def test_arguments_become_thresholds():
    line = "a.tar --output o --least-side 9 --caption-field label --decode-pixels"
    ours, beams = validate_data.build_parser().parse_known_args(
        [*line.split(), "--direct_num_workers", "0"]
    )
    assert beams == ["--direct_num_workers", "0"]
    assert validate_data.read_thresholds(ours) == Thresholds(
        least_side=9, caption_fields=("label",), decode_pixels=True
    )


def test_the_script_loads_neither_keras_nor_beam():
    code = "import recipes.validate_data, sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.split(".")[0] for name in done.stdout.split()}
    assert not loaded & {"keras", "keras_pe", "apache_beam", "tensorflow"}


def test_the_script_asks_for_what_the_constraints_pin():
    script = (ROOT / "recipes" / "validate_data.py").read_text()
    block = re.search(r"# dependencies = \[\n(.*?)# \]", script, re.S).group(1)
    asked = set(re.findall(r'"(.+?)"', block))
    pinned = (ROOT / "recipes" / "tfdv-py311-constraints.txt").read_text().split("\n")
    assert asked
    assert asked <= set(pinned)


@pytest.mark.slow
@pytest.mark.skipif(not TFDV_PYTHON.exists(), reason="needs .venv-tfdv, see the top")
def test_the_real_script_gives_the_results_kept_here(tmp_path):
    validation_shards.write_clean(tmp_path / "shards" / "clean")
    validation_shards.write_damaged(tmp_path / "shards" / "damaged")
    script = [TFDV_PYTHON, ROOT / "recipes" / "validate_data.py"]
    compare = ["--schema", "clean/schema.pbtxt", "--baseline", "clean"]
    for kind, more, code in (("clean", [], 0), ("damaged", compare, 1)):
        done = subprocess.run(
            [*script, f"shards/{kind}", "--output", kind, *more],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr[-3000:]
        for name in ("schema.pbtxt", "anomalies.pbtxt"):
            kept = (RESULTS / kind / name).read_text()
            assert (tmp_path / kind / name).read_text() == kept
