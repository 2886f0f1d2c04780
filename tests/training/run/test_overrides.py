"""Settings by name, and configurations that are refused before anything is read."""

import dataclasses
import math
import re

import pytest

from keras_pe.data import TooManySkipped
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run import start
from keras_pe.training.run.config import RunConfig, check_config, check_towers
from keras_pe.training.run.options import distill_settings, with_overrides
from keras_pe.training.run.overrides import (
    SettingError,
    parse_value,
    setting_kinds,
    setting_values,
    with_settings,
)
from keras_pe.training.run.shard_data import ShardData
from keras_pe.training.run.start import AFTER_STOP, said_plainly
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_run import RunMismatch
from recipes import distill, pretrain
from recipes.configs import CONFIGS

pytestmark = [pytest.mark.quick, pytest.mark.once]
SMOKE = CONFIGS["smoke"]
# Another value for each field of a configuration, as text and as it must arrive.
OTHERS = {
    "stages": ("40:100,64:300", (ResolutionStage(40, 100), ResolutionStage(64, 300))),
    "batch_size": ("48", 48),
    "optimizer": ("lamb", "lamb"),
    "learning_rate": ("1e-5", 1e-5),
    "warmup_steps": ("7", 7),
    "schedule": ("cosine", "cosine"),
    "weight_decay": ("0", 0.0),
    "beta_2": ("0.9", 0.9),
    "lamb_exclude": ("embedding, probe", ("embedding", "probe")),
    "unadapted_rate": ("0.25", 0.25),
    "gradient_clip": ("none", None),
    "loss": ("sigmoid", "sigmoid"),
    "duplicates": ("ignore", "ignore"),
    "augment": ("false", False),
    "mask_weight": ("0.5", 0.5),
    "mask_ratio": ("0.3", 0.3),
    "mask_every": ("4", 4),
    "mask_block": ("2", 2),
    "keep_patches": ("0.5", 0.5),
    "image_chunk_size": ("8", 8),
    "text_chunk_size": ("16", 16),
    "loss_chunk_size": ("4", 4),
    "remat": ("true", True),
    "precision": ("mixed_bfloat16", "mixed_bfloat16"),
    "caption_key": ("title", "title"),
    "max_bad_share": ("0.2", 0.2),
    "freeze": ("vision", "vision"),
    "num_frames": ("4", 4),
    "sharding": ("parameters", "parameters"),
    "seed": ("3", 3),
}


def test_every_field_is_reached():
    fields = {field.name for field in dataclasses.fields(RunConfig)}
    assert fields - {"vision", "text"} == OTHERS.keys()
    for name, (text, value) in OTHERS.items():
        changed = with_settings(SMOKE, [f"{name}={text}"])
        assert getattr(changed, name) == value, name
        assert getattr(SMOKE, name) != value, name
        assert dataclasses.replace(changed, **{name: getattr(SMOKE, name)}) == SMOKE
    everything = [f"{name}={text}" for name, (text, _) in OTHERS.items()]
    changed = with_settings(SMOKE, everything)
    assert {name: getattr(changed, name) for name in OTHERS} == {
        name: value for name, (_, value) in OTHERS.items()
    }


def test_every_argument_of_the_towers_is_reached():
    changed = with_settings(
        SMOKE,
        [
            "vision.num_layers=6",
            "vision.layer_scale=0.1",
            "vision.pooling=none",
            "vision.rope=false",
            "vision.global_blocks=2,5",
            "text.context_length=24",
        ],
    )
    assert changed.vision == {
        **SMOKE.vision,
        "num_layers": 6,
        "layer_scale": 0.1,
        "pooling": None,
        "rope": False,
        "global_blocks": (2, 5),
    }
    assert changed.text == {**SMOKE.text, "context_length": 24}
    names = setting_kinds(SMOKE)
    assert "vision.drop_path" in names
    assert not {"vision.dtype", "vision.name", "text.remat"} & names.keys()


@pytest.mark.parametrize("name", CONFIGS)
def test_what_is_printed_can_be_set(name):
    config = CONFIGS[name]
    values = setting_values(config)
    assert values.keys() >= OTHERS.keys()
    settings = [f"{setting}={value}" for setting, value in values.items()]
    assert with_settings(config, settings) == config


@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("learnin_rate=1", "Did you mean learning_rate"),
        ("num_layers=3", "text.num_layers or vision.num_layers"),
        ("vision.num_layer=3", "vision.num_layers"),
        ("vision=3", "set by its parts"),
        ("qqq=3", "--settings lists"),
        ("seed", "expected name=value"),
        ("seed=1.5", "seed='1.5': expected a whole number"),
        ("seed=x", "expected a whole number"),
        ("learning_rate=nan", "expected a number"),
        ("learning_rate=1e999", "expected a number"),
        ("batch_size=1e999", "expected a whole number"),
        ("augment=maybe", "expected true or false"),
        ("optimizer=sgd", "expected lamb or adamw"),
        ("batch_size=none", "expected a whole number"),
        ("stages=64", "such as 48:600000,64:400000"),
        ("stages=64:0", "samples=0"),
    ],
)
def test_settings_that_can_not_be(setting, says):
    with pytest.raises(SettingError) as caught:
        with_settings(SMOKE, [setting])
    assert says in str(caught.value)


def test_a_setting_comes_once():
    with pytest.raises(SettingError, match="seed is set twice"):
        with_settings(SMOKE, ["seed=1", "seed=2"])
    options = pretrain.parse(["--seed", "1", "--set", "seed=2"])
    with pytest.raises(SettingError, match="seed is set twice"):
        with_overrides(SMOKE, options)


def test_numbers_as_people_write_them():
    assert parse_value("1e6", int, "n") == 1_000_000
    assert parse_value("9007199254740993", int, "n") == 9007199254740993
    assert parse_value("none", int | None, "n") is None
    assert math.isclose(parse_value("5", float, "n"), 5.0)


def test_the_command_line_reaches_the_student_and_its_teacher():
    line = "--config smoke --set batch_size=16 --set start=blocks --seed 4 --teacher t"
    options = distill.parse([*line.split(), "--set", "teacher_logit_scale=50"])
    config = distill_settings(distill.CONFIGS["smoke"], options)
    assert (config.student.batch_size, config.student.seed) == (16, 4)
    assert (config.teacher, config.start) == ("t", "blocks")
    assert config.teacher_logit_scale == 50.0


def test_a_teacher_that_ranks_nothing_is_refused():
    for scale in ("0", "-200"):
        options = distill.parse(["--set", f"teacher_logit_scale={scale}"])
        with pytest.raises(ValueError, match="teacher_logit_scale must be more than 0"):
            distill_settings(distill.CONFIGS["smoke"], options)


def test_numbers_that_are_not_finite_are_refused():
    """`--set` has none, a program may: a checkpoint could not say them."""
    for name in ("gradient_clip", "learning_rate", "weight_decay"):
        config = dataclasses.replace(SMOKE, **{name: float("inf")})
        with pytest.raises(ValueError, match=f"{name}=inf: expected a finite number"):
            check_config(config)


# === Refused before anything is read ===
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["batch_size=1"], "a batch of one teaches nothing"),
        (["mask_ratio=1"], "mask_ratio=1.0: expected between 0 and 1"),
        (["max_bad_share=2"], "--set max_bad_share"),
        (["learning_rate=-1"], "learning_rate"),
        (["keep_patches=0.5"], "--set mask_weight=0"),
        (["freeze=vision"], "--set mask_weight=0"),
        (["image_chunk_size=5"], "expected a divisor of the batch of 32"),
        (["stages=50:320"], "no multiple of the patch"),
        (["seed=-1"], "0 or more"),
        (["mask_every=0"], "1 or more"),
        (["warmup_steps=20"], "warmup_steps=20 in a run of 20 steps"),
        (["stages=64:10"], "less than a step of 32"),
    ],
)
def test_configurations_that_can_not_run(settings, says):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        check_config(with_settings(SMOKE, settings))
    assert says in str(caught.value)


def test_a_batch_of_one_is_refused_by_the_recipe(tmp_path):
    one = dataclasses.replace(SMOKE, batch_size=1)
    data = ShardData("no data are looked for")
    with pytest.raises(ValueError, match="--batch-size"):
        pretrain.pretrain(one, data, RunOptions(tmp_path))
    assert not list(tmp_path.iterdir())


def test_all_that_is_wrong_is_said_at_once(tmp_path, monkeypatch, capsys):
    wrong = with_settings(SMOKE, ["vision.num_heads=5"])
    with pytest.raises(ValueError, match="heads"):
        check_towers(wrong)
    line = "recipe --config smoke --data nothing --set vision.num_heads=5"
    assert_refused(line, tmp_path / "x", monkeypatch)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "error: --data nothing: there is no nothing."
    assert lines[1].startswith("error: ")
    assert "heads" in lines[1]


def assert_refused(line, output, monkeypatch):
    """The command line ends with the code 2 and leaves nothing."""
    monkeypatch.setattr("sys.argv", [*line.split(), "--output", str(output)])
    with pytest.raises(SystemExit) as caught:
        pretrain.main()
    assert caught.value.code == 2
    assert not output.exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--config smoke --data nowhere", r"--data nowhere: there is no nowhere"),
        ("--config smoke --data nowhere.tar", r"there is no nowhere.tar"),
        ("--config smoke --data x*y.tar", r"x\*y\.tar"),
        ("--config smoke", "needs --data and --output"),
        ("--config smoke --data nowhere --samples 64", r"nowhere(.|\n)*warmup_steps"),
        ("--config smoke --data nowhere --batch-size many", "batch_size='many'"),
    ],
)
def test_a_wrong_path_is_named(tmp_path, monkeypatch, capsys, line, message):
    assert_refused(f"recipe {line}", tmp_path / "x", monkeypatch)
    said = capsys.readouterr().err
    assert re.search(message, said), said
    assert said.startswith("error: ")


def test_a_run_that_is_there_is_not_begun_again(tmp_path, monkeypatch, capsys):
    (tmp_path / "run/checkpoints/step_000000001").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/train-00000.tar").touch()
    line = f"recipe --config smoke --data {tmp_path}/data --output {tmp_path}/run"
    monkeypatch.setattr("sys.argv", line.split())
    with pytest.raises(SystemExit) as caught:
        pretrain.main()
    assert caught.value.code == 2
    assert "already holds a run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("file", "a file, not a folder"),
        ("file/a", "can't be"),
        ("n" * 300, "300 bytes"),
    ],
)
def test_an_output_that_cannot_be_written_is_found_before_the_data(
    output, message, tmp_path, monkeypatch, capsys
):
    (tmp_path / "file").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.tar").write_bytes(b"no tar")
    line = f"recipe --config smoke --data {tmp_path}/data --output {tmp_path}/{output}"
    monkeypatch.setattr("sys.argv", line.split())
    with pytest.raises(SystemExit) as caught:
        pretrain.main()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert "a.tar" not in said


@pytest.mark.parametrize("name", [n for n in CONFIGS if n != "finetune"])
def test_every_configuration_can_run(name):
    check_config(CONFIGS[name])


def test_settings_are_printed(monkeypatch, capsys):
    line = "recipe --config paper-t16 --set mask_weight=0 --settings"
    monkeypatch.setattr("sys.argv", line.split())
    pretrain.main()
    printed = capsys.readouterr().out.splitlines()
    assert "mask_weight=0.0" in printed
    assert "vision.hidden_dim=192" in printed


def test_a_stop_is_one_line_with_what_to_do_next(capsys):
    with pytest.raises(SystemExit) as caught, said_plainly(after_stop=AFTER_STOP):
        raise KeyboardInterrupt
    assert caught.value.code == 130
    (line,) = capsys.readouterr().err.split("\n")[1:-1]
    assert line.startswith("stopped: the same command with --resume goes on")


@pytest.mark.parametrize(
    ("recipe", "line"),
    [
        (pretrain, "recipe --config smoke --data d --output o"),
        (distill, "recipe --config smoke --data d --output o"),
    ],
)
@pytest.mark.parametrize(
    "error", [RunMismatch("other stages"), TooManySkipped("3 of 4")], ids=type
)
def test_what_ends_a_run_is_said_without_a_traceback(
    recipe, line, error, monkeypatch, capsys
):
    def fails(*given, **named):
        raise error

    monkeypatch.setattr("sys.argv", line.split())
    monkeypatch.setattr(start, "start_run", lambda *given: None)
    monkeypatch.setattr(start, "shard_data", lambda *given: None)
    monkeypatch.setattr(recipe, recipe.__name__.rpartition(".")[2], fails)
    with pytest.raises(SystemExit) as caught:
        recipe.main()
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {error}\n"
