"""Reading what data validation found. The results are TFDV's own, see their README."""

import json
import shutil
import sys
from pathlib import Path

import fsspec
import pytest

pytest.importorskip("tensorflow_metadata", reason="part of keras-pe[train]")

from keras_pe.data.validation import (
    Anomaly,
    DataValidationError,
    check_data,
    fingerprint,
    read_anomalies,
    read_schema,
    validated_shards,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]

RESULTS = Path(__file__).parent / "validation_results"
CLEAN, DAMAGED = RESULTS / "clean", RESULTS / "damaged"


def write_shards(folder, names=(), **sizes):
    """Writes files of the names and sizes that the clean results were made from."""
    folder.mkdir(exist_ok=True)
    shards = json.loads((CLEAN / "data.json").read_text())["shards"]
    sizes = {shard["name"]: shard["bytes"] for shard in shards} | sizes
    for name, size in sizes.items():
        if size is not None:
            (folder / name).write_bytes(bytes(size))
    return str(folder / "*.tar")


@pytest.fixture
def results(tmp_path):
    """A copy of the clean results, to be spoilt."""
    return Path(shutil.copytree(CLEAN, tmp_path / "results"))


def test_sound_data_pass(tmp_path):
    assert read_anomalies(CLEAN) == ()
    assert check_data(CLEAN) == ()
    assert check_data(str(CLEAN), shards=write_shards(tmp_path / "data")) == ()


def test_every_planted_fault_is_read():
    found = {anomaly.feature: anomaly for anomaly in read_anomalies(DAMAGED)}
    numbers = {
        "caption_missing": "7 of 130 samples",
        "caption_empty": "5 of 123 samples",
        "caption_length": "4 of 118 samples",
        "image_unreadable": "2 of 130 images",
        "image_size": "3 of 128 images",
        "image_aspect_ratio": "2 of 128 images",
        "image_repeated": "12 of 128 images",
        "key_repeated": "1 of 130 samples",
        "text_unreadable": "1 of 130 samples",
        "shard_unreadable": "1 of 2 shards",
    }
    for feature, number in numbers.items():
        assert found[feature].description.startswith(number), found[feature]
    drifted = {name for name, item in found.items() if "Jensen" in item.description}
    assert {"range_of_caption_words", "range_of_image_width"} <= drifted
    assert not drifted & set(numbers)
    assert found["range_of_image_width"].short_description == (
        "image_width differs from the baseline"
    )
    assert found["caption_empty"].severity == "ERROR"


def test_anomalies_stop_training_and_are_all_listed():
    with pytest.raises(DataValidationError) as caught:
        check_data(DAMAGED)
    message = str(caught.value)
    for anomaly in read_anomalies(DAMAGED):
        assert anomaly.feature in message
        assert anomaly.short_description in message
        assert anomaly.description.rstrip(". ") in message
    assert "report.md" in message


def test_anomalies_can_be_allowed_altogether_or_by_name():
    everything = read_anomalies(DAMAGED)
    assert check_data(DAMAGED, allow_anomalies=True) == everything
    names = [anomaly.feature for anomaly in everything]
    assert check_data(DAMAGED, allow_anomalies=names) == everything
    with pytest.raises(DataValidationError, match="found 1 anomalies") as caught:
        check_data(DAMAGED, allow_anomalies=names[1:])
    assert f"* {names[0]}:" in str(caught.value)
    with pytest.raises(ValueError, match="list of feature names"):
        check_data(DAMAGED, allow_anomalies="caption_empty")


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"train-00001.tar": 17}, r"1 of another size: train-00001.tar \(.* 17 now"),
        ({"train-00002.tar": 17}, "1 never validated: train-00002.tar"),
        ({"train-00001.tar": None}, "1 validated but not used: train-00001.tar"),
    ],
)
def test_results_of_other_shards_are_refused(tmp_path, sizes, words):
    shards = write_shards(tmp_path / "data", **sizes)
    # Anomalies may be allowed, other data may not.
    with pytest.raises(DataValidationError, match=words):
        check_data(CLEAN, shards=shards, allow_anomalies=True)


def test_shards_are_told_apart_by_name_and_size_but_not_by_folder(tmp_path):
    here = write_shards(tmp_path / "here")
    there = write_shards(tmp_path / "there")
    assert fingerprint(here) == fingerprint(there) == validated_shards(CLEAN)
    sizes = {f"gs://bucket/{n}": b for n, b in validated_shards(CLEAN)}
    assert check_data(CLEAN, shards=sizes) == ()
    # The same names once more are twice the data.
    with pytest.raises(DataValidationError, match="2 never validated") as caught:
        check_data(CLEAN, shards=[here, there])
    assert "Of 4 shards for training and 2 validated" in str(caught.value)


def test_results_may_lie_behind_a_url():
    system = fsspec.filesystem("memory")
    for path in DAMAGED.iterdir():
        system.pipe_file(f"/validation/{path.name}", path.read_bytes())
    assert read_anomalies("memory://validation") == read_anomalies(DAMAGED)
    assert validated_shards("memory://validation") == validated_shards(DAMAGED)


@pytest.mark.parametrize("name", ["anomalies.pbtxt", "data.json"])
def test_missing_and_unfinished_results_are_refused(results, tmp_path, name):
    shards = write_shards(tmp_path / "data")
    (results / name).unlink()
    with pytest.raises(DataValidationError, match=f"No {name} in .*has not finished"):
        check_data(results, shards=shards)
    with pytest.raises(DataValidationError, match="has not run"):
        check_data(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("anomalies.pbtxt", b"anomaly_info {", "no Anomalies in text form"),
        ("anomalies.pbtxt", b"\xff\xfe", "no Anomalies in text form"),
        ("data.json", b"{", "JSONDecodeError"),
        ("data.json", b"[]", "TypeError"),
        ("data.json", b'{"format_version": 1}', "KeyError"),
        ("data.json", b'{"format_version": 2, "shards": []}', "has format 2"),
    ],
)
def test_damaged_results_are_refused(results, name, content, words):
    (results / name).write_bytes(content)
    with pytest.raises(DataValidationError, match=words):
        check_data(results, shards={})


def test_anomalies_of_the_data_set_as_a_whole(results):
    (results / "anomalies.pbtxt").write_text(
        'dataset_anomaly_info { severity: WARNING short_description: "Few examples" '
        'description: "Expected 9." } data_missing: true a_newer_field { x: 1 }'
    )
    found = read_anomalies(results)
    assert found[0] == Anomaly("", "Few examples", "Expected 9.", "WARNING")
    assert str(found[0]) == "the whole data set: Few examples. Expected 9."
    assert found[1].short_description == "No data"


def test_the_schema_holds_the_limits():
    schema = read_schema(CLEAN)
    features = {feature.name: feature for feature in schema.feature}
    size = features["image_size"]
    assert list(size.string_domain.value) == ["no"]
    assert size.distribution_constraints.min_domain_mass == pytest.approx(0.99)
    assert "shorter side at least 32" in size.annotation.comment[0]
    assert sorted(features["json_text_source"].string_domain.value) == [
        "camera",
        "phone",
        "scanner",
    ]


def test_a_missing_package_is_explained(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_metadata.proto.v0", None)
    with pytest.raises(ImportError, match=r"pip install 'keras-pe\[train\]'"):
        read_anomalies(CLEAN)
