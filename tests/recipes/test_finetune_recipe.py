"""`recipes.finetune`: own pairs in a table, from the command line to a preset."""

import dataclasses
import json
import logging
import shutil

import keras
import numpy as np
import pytest

from keras_pe import PECore, PETokenizer
from keras_pe.data.pair_table import PairTable
from keras_pe.data.sample_errors import SampleError
from keras_pe.evaluation import evaluate_zero_shot
from keras_pe.evaluation.datasets.folders import read_image_folder
from keras_pe.finetuning.pairs.interpolation import interpolated, weights_of
from keras_pe.finetuning.pairs.pair_config import make_trainable, pair_config
from keras_pe.finetuning.pairs.run import WiseOptions, finetune_pairs
from keras_pe.presets.checksums import read_metadata
from keras_pe.training.run.config import build_model
from keras_pe.training.run.retrieval_scores import RetrievalScores
from keras_pe.training.run.shard_data import ShardData, caption_reader
from keras_pe.training.run.train import RunOptions
from recipes.finetune.__main__ import configured, main, opened, parse
from tests.arrays import to_numpy
from tests.data.shards import image_bytes, write_shards
from tests.recipes.small_runs import SMALL, save_small_preset
from tests.small_models import images

WORDS = ("owl", "cactus", "guitar", "rocket", "pizza", "snowman", "bicycle", "octopus")


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    return save_small_preset(tmp_path_factory.mktemp("preset") / "small")


@pytest.fixture
def classes(tmp_path):
    """Eight images of four classes, in folders."""
    for number, word in enumerate(WORDS):
        folder = tmp_path / "classes" / WORDS[number % 4]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{word}.png").write_bytes(image_bytes(number * 25))
    return tmp_path / "classes"


@pytest.fixture
def table(tmp_path):
    """Eight images with captions; a second file lists them without the last ones."""
    rows = []
    for number, word in enumerate(WORDS):
        (tmp_path / f"{word}.png").write_bytes(image_bytes(number * 25))
        rows.append(f"{word}.png,an {word}\n")
    (tmp_path / "pairs.csv").write_text("path,caption\n" + "".join(rows))
    (tmp_path / "fewer.csv").write_text("path,caption\n" + "".join(rows[:6]))
    return tmp_path / "pairs.csv"


def command(preset, table, output, *more):
    return [
        *("--pairs", str(table), "--initial-weights", str(preset), "--quiet"),
        *("--output", str(output), "--batch-size", "4", "--learning-rate", "1e-2"),
        *("--epochs", "3", "--save-every", "3", *map(str, more)),
    ]


def loaded(folder):
    return PECore.from_preset(str(folder))


def assert_same(first, second, **tolerance):
    for one, two in zip(weights_of(first), weights_of(second), strict=True):
        np.testing.assert_allclose(one, two, **(tolerance or {"rtol": 0}))


# === The run ===
def test_the_preset_has_the_weights_between_and_reports_say_so(
    preset, table, tmp_path, caplog
):
    run = tmp_path / "run"
    shards = tmp_path / "old"
    shards.mkdir()
    remember = write_shards(shards)
    line = command(preset, table, run, "--wise", 0.5, "--layer-decay", 0.8)
    line += ["--validation-pairs", str(tmp_path / "fewer.csv"), "--remember", remember]
    with caplog.at_level(logging.WARNING):
        main(line)
    # What training left stands in model.weights.h5; half of the way is the preset.
    tuned = build_model(SMALL)
    tuned.load_weights(run / "model.weights.h5")
    before, after = weights_of(loaded(preset)), weights_of(tuned)
    moved = [not np.array_equal(*both) for both in zip(before, after, strict=True)]
    assert sum(moved) > len(moved) / 2
    found = loaded(run / "preset")
    for half, both in zip(
        weights_of(found), zip(before, after, strict=True), strict=True
    ):
        np.testing.assert_allclose(half, (both[0] + both[1]) / 2, atol=1e-6)
    assert read_metadata(run / "preset")["wise_ft"] == {"alpha": 0.5}
    # Every set is scored at all eleven points, by the weights of each.
    content = json.loads((run / "wise_ft.json").read_text())
    assert [point["alpha"] for point in content["points"]] == [
        n / 10 for n in range(11)
    ]
    tokenizer = PETokenizer.from_preset(run / "preset")
    pairs = {"validation": PairTable(tmp_path / "fewer.csv"), "remembered": remember}
    for place, model in ((0, loaded(preset)), (5, found), (10, tuned)):
        for name, data in pairs.items():
            scores = RetrievalScores(data, model, tokenizer)()
            said = content["points"][place]["scores"][name]
            for score, value in scores.items():
                assert said[score] == pytest.approx(100 * value)
    forgotten = json.loads((run / "forgotten.json").read_text())
    assert forgotten["alpha"] == 0.5
    assert forgotten["sets"]["validation"]["num_pairs"] == 6
    assert forgotten["sets"]["remembered"]["num_pairs"] == 20
    assert -1 < forgotten["sets"]["remembered"]["image_cosine"] < 1
    for name in ("wise_ft.md", "wise_ft.png", "forgotten.md", "curves.png"):
        assert (run / name).stat().st_size > 100


def test_named_classes_are_scored_as_elsewhere(preset, table, classes, tmp_path):
    """Before and after are what `evaluate_zero_shot` says of these weights."""
    run = tmp_path / "run"
    main(command(preset, table, run, "--zero-shot", classes))
    content = json.loads((run / "forgotten.json").read_text())["sets"]["zero_shot"]
    assert content["num_pairs"] == 8
    found = read_image_folder(classes)
    for name, folder in (("before", preset), ("after", run / "preset")):
        model = loaded(folder)
        tokenizer = PETokenizer.from_preset(run / "preset")
        given = (found.samples, found.labels, found.class_names, "general", ["squash"])
        result = evaluate_zero_shot(model, tokenizer, *given, hash_contents=False)
        wanted = result.scores["squash"]["top1"].value
        assert content["changes"]["accuracy"][name] == pytest.approx(100 * wanted)
    points = json.loads((run / "wise_ft.json").read_text())["points"]
    said = content["changes"]["accuracy"]
    ends = [points[place]["scores"]["zero_shot"]["accuracy"] for place in (0, 10)]
    assert ends == pytest.approx([said["before"], said["after"]])
    assert "Images of zero-shot classes: 8" in (run / "forgotten.md").read_text()


@pytest.mark.quick
@pytest.mark.once
def test_remembered_images_have_a_folder_of_their_own(table, tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "bus.png").write_bytes(image_bytes(3))
    (tmp_path / "old.csv").write_text("path,caption\nbus.png,a bus\n")
    line = ["--pairs", str(table), "--remember", str(tmp_path / "old.csv")]
    options = parse([*line, "--remember-images", str(tmp_path / "old")])
    assert opened(options, options.remember)[0]["txt"] == b"a bus"
    assert opened(options, options.data)[0]["txt"] == b"an owl"  # its own folder
    without = parse(line)
    with pytest.raises(SampleError, match=r"bus\.png"):
        opened(without, without.remember)[0]


def test_one_step_moves_early_layers_less(preset, table, tmp_path):
    """With decay each weight moves by its factor of what it moves without."""
    before = {weight.path: to_numpy(weight) for weight in loaded(preset).weights}

    def moves(name, *more):
        line = command(preset, table, tmp_path / name, "--samples", 4, *more)
        main([*line, "--set", "weight_decay=0"])
        after = loaded(tmp_path / name / "preset").weights
        return {w.path: to_numpy(w) - before[w.path] for w in after}

    plain, decayed = moves("plain"), moves("decayed", "--layer-decay", 0.1)
    for path, factor in (
        ("pe_vision_encoder/projection/kernel", 1.0),
        ("pe_vision_encoder/block_2/feed_forward/expand/kernel", 0.1),
        ("pe_vision_encoder/block_1/feed_forward/expand/kernel", 0.01),
        ("pe_vision_encoder/patch_embedding/projection/kernel", 0.001),
        ("pe_text_encoder/block_1/feed_forward/expand/kernel", 0.1),
    ):
        assert np.abs(plain[path]).max() > 5e-3
        found = np.abs(decayed[path]).max() / np.abs(plain[path]).max()
        assert found == pytest.approx(factor, rel=0.05), path


@pytest.mark.compiled
def test_lora_of_one_tower_is_merged(preset, table, tmp_path):
    run = tmp_path / "run"
    main(command(preset, table, run, "--lora", 2, "--towers", "image"))
    before, found = loaded(preset), loaded(run / "preset")
    assert not found.vision_encoder.has_lora
    adapted = build_model(SMALL)
    make_trainable(adapted, pair_config(preset, 8, lora_rank=2, lora_towers="image"))
    adapted.load_weights(run / "model.weights.h5")
    x = images(3, 16, 16)
    merged = to_numpy(found.encode_image(x))
    np.testing.assert_allclose(merged, to_numpy(adapted.encode_image(x)), atol=1e-5)
    assert np.abs(merged - to_numpy(before.encode_image(x))).max() > 1e-3
    assert_same(before.text_encoder, found.text_encoder)
    assert not (run / "wise_ft.json").exists()  # nothing to score


def test_a_run_goes_on_to_the_bit(preset, table, tmp_path, capsys):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("its arithmetic differs in the last bits")
    ways = ("--lora", 2, "--layer-decay", 0.5)
    main(command(preset, table, tmp_path / "whole", *ways))
    whole = loaded(tmp_path / "whole" / "preset")
    again = tmp_path / "again"
    shutil.copytree(tmp_path / "whole", again)
    steps = sorted((again / "checkpoints").glob("step_*"))
    assert len(steps) == 2
    shutil.rmtree(steps[-1])
    shutil.rmtree(again / "preset")
    (again / "model.weights.h5").unlink()
    other = command(preset, table, again, "--lora", 2, "--layer-decay", 0.6)
    with pytest.raises(SystemExit):
        main([*other, "--resume"])
    assert "different: layer_decay" in capsys.readouterr().err
    main([*command(preset, table, again, *ways), "--resume"])
    assert_same(loaded(again / "preset"), whole)


@pytest.mark.once
def test_missing_files_are_skipped_and_said(preset, table, tmp_path, caplog):
    table.write_text(table.read_text() + "gone.png,an owl\n")
    line = command(preset, table, tmp_path / "run", "--max-bad-share", 0.5)
    with caplog.at_level(logging.WARNING):
        main(line)
    assert "gone.png (line 10 of pairs.csv)" in caplog.text
    assert "missing file" in caplog.text


def test_the_same_in_python(preset, table, tmp_path):
    """The command line and six lines of Python make the same weights."""
    main(command(preset, table, tmp_path / "line", "--workers", 0))
    pairs = PairTable(table)
    config = pair_config(preset, len(pairs), 3, batch_size=4, learning_rate=1e-2)
    model = finetune_pairs(
        config,
        ShardData(pairs, pairs),
        RunOptions(tmp_path / "run", initial_weights=str(preset), progress=False),
        WiseOptions("auto", remember=pairs),
    )
    content = json.loads((tmp_path / "run" / "wise_ft.json").read_text())
    before, tuned = loaded(preset), build_model(SMALL)
    tuned.load_weights(tmp_path / "run" / "model.weights.h5")
    chosen = interpolated(weights_of(before), weights_of(tuned), content["chosen"])
    for found, wanted in zip(weights_of(model), chosen, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert_same(model, loaded(tmp_path / "run" / "preset"))
    if keras.backend.backend() != "tensorflow":
        assert_same(tuned, loaded(tmp_path / "line" / "preset"))


@pytest.mark.quick
@pytest.mark.once
def test_a_caption_key_is_of_shards_alone(table, tmp_path):
    shards = write_shards(tmp_path)
    config = dataclasses.replace(SMALL, caption_key="title", mask_weight=0.0)
    pairs = PairTable(table)
    read = caption_reader(config, pairs)
    assert read(pairs[0], np.random.default_rng(0)) == "an owl"
    assert caption_reader(config, shards).keys == ("title",)


# === The command line ===
@pytest.mark.quick
@pytest.mark.once
def test_settings_of_a_command_line(preset, table):
    line = ["--pairs", str(table), "--initial-weights", str(preset)]
    config = configured(parse(line))
    assert (config.samples, config.batch_size, config.warmup_steps) == (40, 8, 0)
    assert (config.learning_rate, config.lora_rank) == (1e-5, 0)
    more = ["--lora", "4", "--samples", "4000", "--set", "layer_decay=0.7"]
    config = configured(parse([*line, *more]))
    assert (config.samples, config.warmup_steps, config.lora_rank) == (4000, 50, 4)
    assert (config.learning_rate, config.layer_decay) == (1e-4, 0.7)


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--caption-column", "words"], "no column 'words'"),
        (["--validation-pairs", "gone.csv"], "gone.csv"),
        (["--wise", "auto"], "give --validation-pairs"),
        (["--wise", "2"], "expected auto, or 0"),
        (["--forget", "-1"], "0 points or more"),
        (["--lora", "2", "--freeze", "text"], "LoRA freezes"),
        (["--towers", "image"], "without LoRA"),
        (["--layer-decay", "0"], "layer_decay=0.0"),
        (["--epochs", "0"], "--epochs"),
        (["--images", "nowhere"], "no such folder"),
        (["--remember-images", "old"], "without --remember"),
        (["--zero-shot", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_in_one_line(preset, table, tmp_path, capsys, more, said):
    line = command(preset, table, tmp_path / "run")
    if more[0] == "--epochs":
        line[line.index("--epochs") : line.index("--epochs") + 2] = []
    with pytest.raises(SystemExit) as stop:
        main([*line, *more])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run" / "preset").exists()
