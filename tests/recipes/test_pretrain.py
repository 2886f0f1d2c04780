"""Training on shards of images and captions: batches, scores, and a look before."""

import csv
import dataclasses
import json
import logging
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

pytest.importorskip("grain", reason="part of keras-pe[train]")

from keras_pe.data import (
    ArrayRecordShards,
    SampleError,
    TarShards,
    TooManySkipped,
    write_array_record,
)
from keras_pe.data.tar_shards import open_shards
from keras_pe.data.validation import DataValidationError
from keras_pe.evaluation.retrieval import retrieval_recall
from keras_pe.models.embedding import embed_images, embed_texts
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.training.resolution import PlannedStage, ResolutionStage
from keras_pe.training.run.config import build_model, build_tokenizer
from keras_pe.training.run.retrieval_scores import RetrievalScores
from keras_pe.training.run.shard_data import ShardData, check_validation
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_run import RunMismatch
from recipes.configs import CONFIGS
from recipes.pretrain import main, pretrain
from tests.data.shards import same_batch, write_shards

quick = pytest.mark.quick
VALIDATION_RESULTS = Path(__file__).parents[1] / "data" / "validation_results"
TOWER = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "intermediate_dim": 32}
CONFIG = dataclasses.replace(
    CONFIGS["smoke"],
    vision={"image_size": 24, "patch_size": 8, "output_dim": 16, **TOWER},
    text={"vocabulary_size": 600, "context_length": 24, "output_dim": 16, **TOWER},
    stages=(ResolutionStage(16, 12), ResolutionStage(24, 12)),
    batch_size=6,
    mask_every=3,
    warmup_steps=1,
)
SMALL, LARGE = PlannedStage(16, 0, 2), PlannedStage(24, 2, 2)


@pytest.fixture
def shards(tmp_path):
    """20 pairs in three tar shards, as a pattern."""
    folder = tmp_path / "data"
    folder.mkdir()
    return write_shards(folder)


def stage_batches(data, stage=LARGE, first=0, count=4, config=CONFIG, **options):
    make = ShardData(data, **options).batches(config, build_tokenizer(config))
    return [batch for (batch,) in make(stage, first, count)]


# === Batches ===
@quick
def test_a_batch_is_what_training_wants(shards):
    batch = stage_batches(shards, count=1)[0]
    assert batch.keys() == {"images", "token_ids", "masked_patches"}
    images, masks = batch["images"], batch["masked_patches"]
    assert images.dtype == np.float32
    assert images.shape == (6, 24, 24, 3)
    assert -1 <= images.min() < -0.5
    assert 0.5 < images.max() <= 1
    assert batch["token_ids"].shape == (6, 24)
    assert masks.shape == (2, 9)
    assert masks.sum(axis=1).tolist() == [4, 4]  # 40 % of nine


@quick
def test_any_step_is_reached_by_its_number(shards):
    whole = stage_batches(shards)
    for number in range(4):
        assert same_batch(
            stage_batches(shards, first=number, count=1)[0], whole[number]
        )
    assert not np.array_equal(whole[0]["masked_patches"], whole[1]["masked_patches"])
    seed = dataclasses.replace(CONFIG, seed=1)
    other = stage_batches(shards, count=1, config=seed)[0]
    for name, array in whole[0].items():
        assert not np.array_equal(array, other[name]), name


@quick
def test_stages_decode_at_their_own_size(shards):
    small, large = stage_batches(shards, SMALL), stage_batches(shards, LARGE)
    for one, two in zip(small, large, strict=True):
        assert one["images"].shape[1:] == (16, 16, 3)
        assert one["masked_patches"].shape == (2, 4)
        np.testing.assert_array_equal(one["token_ids"], two["token_ids"])


@quick
def test_images_without_augmentation_are_squashed_and_patches_dropped(shards):
    config = dataclasses.replace(
        CONFIG, augment=False, mask_weight=0.0, keep_patches=0.5
    )
    batch = stage_batches(shards, count=1, config=config)[0]
    assert batch.keys() == {"images", "token_ids", "kept_patches"}
    assert batch["kept_patches"].shape == (6, 4)
    tokenizer, convert = build_tokenizer(config), PEImageConverter(24)
    source = TarShards(shards)
    expected = {
        tokenizer(sample["txt"].decode()).tobytes(): convert(sample["png"])[0]
        for sample in map(source.__getitem__, range(len(source)))
    }
    for ids, image in zip(batch["token_ids"], batch["images"], strict=True):
        np.testing.assert_array_equal(image, expected[ids.tobytes()])


@quick
def test_array_records_give_the_same_batches(shards):
    pytest.importorskip("array_record", reason="array_record is not installed")
    for path in TarShards(shards).paths:
        write_array_record(path.replace(".tar", ".arrayrecord"), TarShards(path))
    records = shards.replace(".tar", ".arrayrecord")
    assert isinstance(open_shards(records), ArrayRecordShards)
    for one, two in zip(stage_batches(shards), stage_batches(records), strict=True):
        assert same_batch(one, two)
    both = str(Path(shards).parent / "shard-000.*[dr]")  # .tar and .arrayrecord
    with pytest.raises(ValueError, match="not both in one run"):
        open_shards(both)


@quick
@pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="one process a device is PyTorch's way"
)
def test_every_process_makes_its_own_rows(shards, monkeypatch):
    whole = stage_batches(shards, count=2)
    monkeypatch.setenv("WORLD_SIZE", "2")
    parts = []
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        parts.append(stage_batches(shards, count=2))
    for batch, *halves in zip(whole, *parts, strict=True):
        for name, array in batch.items():
            joined = np.concatenate([half[name] for half in halves])
            np.testing.assert_array_equal(joined, array)


@pytest.mark.once
def test_processes_make_the_same_batches(shards, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "numpy")  # theirs: loads in half the time
    threads, processes = stage_batches(shards), stage_batches(shards, workers=2)
    for one, two in zip(threads, processes, strict=True):
        assert same_batch(one, two)


@quick
def test_batches_smaller_than_the_distance_of_masks(shards):
    for size, masks in ((2, 1), (5, 1), (6, 2), (7, 1), (20, 5)):
        config = dataclasses.replace(CONFIG, batch_size=size)
        batch = stage_batches(shards, count=1, config=config)[0]
        assert batch["masked_patches"].shape == (masks, 9)


@quick
def test_a_caption_key_and_a_share_of_bad_samples(shards):
    config = dataclasses.replace(CONFIG, caption_key="title", max_bad_share=0.5)
    with pytest.raises(SampleError, match=r"no good sample.*No text in title"):
        stage_batches(shards, count=1, config=config)
    folder = Path(TarShards(shards).paths[0]).parent / "bad"
    folder.mkdir()
    bad = write_shards(folder, counts=(40,), bad=dict.fromkeys(range(10), "caption"))
    captions = dataclasses.replace(config, caption_key=None)
    assert len(stage_batches(bad, count=30, config=captions)) == 30
    strict = dataclasses.replace(captions, max_bad_share=0.01)
    with pytest.raises(TooManySkipped, match=r"max_bad_share=0\.01"):
        stage_batches(bad, count=30, config=strict)


@quick
@pytest.mark.parametrize(
    "workers", [0, pytest.param(2, marks=[pytest.mark.slow, pytest.mark.once])]
)
def test_bad_data_end_a_run_in_one_line(tmp_path, monkeypatch, capfd, workers):
    bad = write_shards(tmp_path, counts=(40,), bad=dict.fromkeys(range(30), "image"))
    line = (
        f"recipe --config smoke --data {bad} --output {tmp_path}/run --quiet "
        f"--samples 48 --batch-size 6 --workers {workers} --set mask_every=3"
    )
    monkeypatch.setattr("sys.argv", line.split())
    if workers:
        monkeypatch.setenv("KERAS_BACKEND", "numpy")  # theirs: loads in half the time
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    said = capfd.readouterr().err
    assert "Traceback" not in said
    (error,) = [line for line in said.splitlines() if line.startswith("error: ")]
    assert "damaged image" in error


# === Scores ===
def test_retrieval_is_measured_on_all_validation_pairs(shards):
    keras.utils.set_random_seed(0)
    model, tokenizer = build_model(CONFIG), build_tokenizer(CONFIG)
    # 20 pairs in batches of 8: the last batch is half full.
    scores = RetrievalScores(shards, model, tokenizer, batch_size=8)()
    source = TarShards(shards)
    samples = [source[number] for number in range(20)]
    images = PEImageConverter(24)([sample["png"] for sample in samples])
    texts = [sample["txt"].decode() for sample in samples]
    expected = retrieval_recall(
        embed_images(model, images), embed_texts(model, tokenizer, texts)
    )
    assert scores == pytest.approx(expected, abs=0.051)  # ties may fall otherwise


# === A run ===
@pytest.mark.compiled
def test_a_run_goes_on_where_it_was_stopped(shards, tmp_path):
    config = dataclasses.replace(CONFIG, stages=(ResolutionStage(24, 18),))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    options = RunOptions(whole, save_every=1, progress=False)
    pretrain(config, ShardData(shards, validation_data=shards), options)
    rows = list(csv.DictReader((whole / "steps.csv").open()))
    assert [row["image_size"] for row in rows] == ["24", "24", "24"]
    scores = list(csv.DictReader((whole / "scores.csv").open()))
    assert [row["step"] for row in scores] == ["3"]
    assert "text_to_image_recall_at_1" in scores[0]

    # As after a power cut during the third step.
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "checkpoints" / "step_000000003")
    options = RunOptions(stopped, resume=True, progress=False)
    pretrain(config, ShardData(shards), options)
    resumed = list(csv.DictReader((stopped / "steps.csv").open()))
    for name in ("step", "loss", "mask_loss", "gradient_norm"):
        for row, other in zip(rows, resumed, strict=True):
            assert float(row[name]) == pytest.approx(float(other[name]), rel=1e-6)

    fewer, other = shards.replace("002", "001"), tmp_path / "other"
    shutil.copytree(Path(shards).parent, other)
    content = bytearray((other / "shard-001.tar").read_bytes())
    place = content.index(b"image number 11")
    content[place : place + 17] = b"image number 99"
    (other / "shard-001.tar").write_bytes(content)
    for data in (fewer, str(other)):  # same names, counts and sizes
        with pytest.raises(RunMismatch, match="another configuration; different: data"):
            pretrain(config, ShardData(data), options)


@quick
def test_a_configuration_names_the_data_wherever_they_lie(shards, tmp_path):
    elsewhere = shutil.copytree(Path(shards).parent, tmp_path / "elsewhere")
    said = ShardData(shards).describe()
    assert said == {
        "data": {
            "shards": ["shard-000.tar", "shard-002.tar", 3],
            "pairs": 20,
            "digest": TarShards(shards).digest,
        }
    }
    assert ShardData(str(elsewhere / "shard-*.tar")).describe() == said
    assert ShardData(str(elsewhere)).describe() == said


# === Validation of the data ===
def write_results(kind, shards):
    """Puts TFDV's results beside the shards, as results of exactly these."""
    folder = Path(shards).parent / "validation"
    shutil.copytree(VALIDATION_RESULTS / kind, folder)
    data = json.loads((folder / "data.json").read_text())
    data["shards"] = [
        {"name": Path(path).name, "bytes": Path(path).stat().st_size}
        for path in TarShards(shards).paths
    ]
    (folder / "data.json").write_text(json.dumps(data))


@quick
def test_without_results_training_goes_on_and_says_so_once(shards, caplog):
    check_validation(shards)
    assert len(caplog.messages) == 1
    assert f"validate_data.py '{shards}' --output" in caplog.messages[0]
    with pytest.raises(DataValidationError, match="has not run"):
        check_validation(shards, results=str(Path(shards).parent / "named"))


@quick
def test_sound_data_pass_and_others_are_refused(shards, caplog):
    pytest.importorskip("tensorflow_metadata", reason="part of keras-pe[train]")
    write_results("clean", shards)
    with caplog.at_level(logging.INFO):
        check_validation(shards)
    assert "The data passed validation" in caplog.messages[0]
    Image.new("RGB", (9, 9)).save(Path(shards).parent / "shard-003.tar", "PNG")
    with pytest.raises(DataValidationError, match="1 never validated: shard-003"):
        check_validation(shards.replace("002", "003"))


@quick
def test_anomalies_stop_the_run_unless_they_are_allowed(shards, caplog):
    pytest.importorskip("tensorflow_metadata", reason="part of keras-pe[train]")
    write_results("damaged", shards)
    with pytest.raises(DataValidationError, match="caption_missing"):
        check_validation(shards)
    with pytest.raises(DataValidationError, match="image_size"):
        check_validation(shards, allow_anomalies=["caption_missing"])
    check_validation(shards, allow_anomalies=True)
    assert any("caption_missing" in message for message in caplog.messages)
