"""The recipe of language alignment: configurations, two phases, a run that goes on."""

import csv
import dataclasses
import json

import numpy as np
import pytest

from keras_pe import PELang, PETokenizer
from keras_pe.data.questions import Question, question_member, write_question_shards
from keras_pe.data.sample_errors import SampleError
from keras_pe.language import ChatPrompt, SmallDecoder, VisionLanguageModel
from keras_pe.training.run.align_language import align_language, check_alignment
from keras_pe.training.run.answer_accuracy import AnswerAccuracy
from keras_pe.training.run.checkpoint import RunCheckpoints
from keras_pe.training.run.language_config import LanguageConfig, check_language
from keras_pe.training.run.language_parts import (
    build_language_trainer,
    part_rates,
    start_words,
)
from keras_pe.training.run.overrides import SettingError
from keras_pe.training.run.question_data import QuestionData
from keras_pe.training.run.train import RunOptions
from keras_pe.training.run.training_config import stages_of
from keras_pe.training.run.training_run import RunMismatch
from recipes.align_language import CONFIGS, main, parse
from tests.arrays import to_numpy
from tests.data.shards import image_bytes, tar_bytes
from tests.small_models import core as dual_encoder
from tests.small_models import perturb, vision_encoder

SIDE = 32


@pytest.mark.quick
@pytest.mark.once
def test_configurations_of_the_paper():
    large = CONFIGS["paper-g14"]
    assert (large.batch_size, large.learning_rate, large.warmup_steps) == (
        2048,
        4e-5,
        120,
    )
    assert (large.layers, large.layer_scale, large.drop_path) == (47, 0.1, 0.1)
    assert (large.pooling, large.projector_layers) == (1, 2)
    assert 69.9e6 < large.samples <= 70e6
    first = CONFIGS["paper-g14-warmup"]
    assert (first.train_encoder, first.train_decoder) == (False, False)
    assert (first.samples, first.batch_size) == (8000 * 512, 512)
    assert (first.learning_rate, first.warmup_steps) == (1e-4, 20)
    assert CONFIGS["paper-l14"].layers == 23
    for config in CONFIGS.values():
        check_language(config)


@pytest.mark.quick
@pytest.mark.once
def test_questions_apart_want_a_decoder_that_reads_positions():
    config = dataclasses.replace(CONFIGS["paper-g14"], questions_apart=True)
    with pytest.raises(SettingError, match=r"questions_apart.* expected false"):
        check_language(config)


# === A run ===
@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("presets") / "core"
    perturb(vision_encoder(num_layers=2)).save_to_preset(folder)
    return str(folder)


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Six images of two kinds, each asked two questions, and a text alone."""
    folder = tmp_path_factory.mktemp("questions")

    def samples():
        for number in range(6):
            asked = [
                Question("What is it?", "a cat" if number % 2 else "a dog", "name"),
                Question("How many?", str(number), "count"),
            ]
            yield {
                "__key__": f"{number:04d}",
                "png": image_bytes(40 * number),
                "json": question_member(asked),
            }
        yield {"__key__": "9999", "json": question_member([Question("Hi?", "hello")])}

    write_question_shards(folder, "train", samples())
    return str(folder / "*.tar")


def config_of(preset, **changes):
    options = {
        "encoder": preset,
        "stages": stages_of(16, (SIDE,), (1,)),
        "batch_size": 4,
        "warmup_steps": 1,
        "learning_rate": 1e-2,
        "pooling": 2,
        "decoder_tokenizer": "pe_core_emoji_small_patch8_64",
        "decoder_dim": 16,
        "decoder_layers": 1,
        "decoder_heads": 2,
        "row_length": 48,
        "questions": 2,
        "drop_path": 0.1,
    }
    return LanguageConfig(**{**options, **changes})


def rows(directory):
    with (directory / "steps.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


class Stopping(QuestionData):
    """Data that end in an error after two batches."""

    def batches(self, config, prompt):
        make = super().batches(config, prompt)

        class Stopped:
            def __init__(self, batches):
                self.batches = batches

            def __iter__(self):
                for place, batch in enumerate(self.batches):
                    if place == 2:
                        raise InterruptedError("stopped")
                    yield batch

        return lambda stage, first, count: Stopped(make(stage, first, count))


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_to_the_bit(preset, shards, tmp_path):
    config = config_of(preset, encoder_rate=0.1)
    data = QuestionData(shards, shards)
    options = RunOptions(tmp_path / "whole", progress=False, evaluate_every=2)
    whole = align_language(config, data, options)
    assert isinstance(whole, VisionLanguageModel)
    assert isinstance(whole.encoder, PELang)
    assert (whole.encoder.num_layers, whole.encoder.layer_scale) == (1, 0.1)

    options = RunOptions(tmp_path / "halves", progress=False, save_every=1)
    with pytest.raises(InterruptedError):
        align_language(config, Stopping(shards), options)
    other = dataclasses.replace(config, questions=1)
    again = dataclasses.replace(options, resume=True)
    with pytest.raises(RunMismatch, match="questions"):
        align_language(other, data, again)
    resumed = align_language(config, QuestionData(shards), again)
    for part in ("encoder", "projector", "decoder"):
        pairs = zip(
            getattr(resumed, part).weights, getattr(whole, part).weights, strict=True
        )
        for ours, theirs in pairs:
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    logs = [rows(tmp_path / name) for name in ("whole", "halves")]
    assert [len(log) for log in logs] == [4, 4]
    for name in ("loss", "answer_loss", "answer_accuracy"):
        assert [row[name] for row in logs[0]] == [row[name] for row in logs[1]]

    # What it leaves: the encoder alone, and all three.
    where = str(tmp_path / "whole" / "preset")
    encoder = PELang.from_preset(where)
    np.testing.assert_array_equal(
        to_numpy(encoder.weights[0]), to_numpy(whole.encoder.weights[0])
    )
    loaded = VisionLanguageModel.from_preset(where)
    picture = np.full((SIDE, SIDE, 3), 80, "uint8")
    asked = (picture, "What is it?", 4)
    assert loaded.generate(*asked) == whole.generate(*asked)
    scores = (tmp_path / "whole" / "scores.csv").read_text().splitlines()
    assert "answers/name" in scores[0]


@pytest.mark.slow
def test_the_second_phase_starts_where_the_first_one_ended(preset, shards, tmp_path):
    first = config_of(preset, train_encoder=False, stages=stages_of(8, (SIDE,), (1,)))
    data = QuestionData(shards)
    warm = align_language(first, data, RunOptions(tmp_path / "warm", progress=False))
    # Frozen: the core's blocks as they are, without LayerScale, not in checkpoints.
    assert warm.encoder.layer_scale is None
    kept, _ = RunCheckpoints(tmp_path / "warm" / "checkpoints").load()
    assert any("small_decoder" in name for name in kept)
    assert not any("pe_lang" in name for name in kept)

    second = config_of(preset, start=str(tmp_path / "warm" / "preset"))
    begun = build_language_trainer(second)
    for part in ("projector", "decoder"):
        pairs = zip(
            getattr(begun.model, part).weights,
            getattr(warm, part).weights,
            strict=True,
        )
        for ours, theirs in pairs:
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    # LayerScale is folded: the projector reads what it read.
    picture = np.full((SIDE, SIDE, 3), 80, "uint8")
    asked = (picture, "What is it?", 4)
    assert begun.model.generate(*asked) == warm.generate(*asked)
    align_language(second, data, RunOptions(tmp_path / "all", progress=False))
    with pytest.raises(SettingError, match=r"decoder_layers=2: start=.* has 1"):
        build_language_trainer(dataclasses.replace(second, decoder_layers=2))
    with pytest.raises(SettingError, match="4 tokens an image"):
        build_language_trainer(
            dataclasses.replace(second, stages=stages_of(16, (64,), (1,)))
        )
    with pytest.raises(SettingError, match=r"layers=2: start=.* has 1"):
        build_language_trainer(dataclasses.replace(second, layers=2))
    with pytest.raises(SettingError, match=r"decoder_tokenizer=.*: 49408 words"):
        build_language_trainer(
            dataclasses.replace(second, decoder_tokenizer="pe_core_base_patch16_224")
        )
    other = tmp_path / "other"
    perturb(vision_encoder(num_layers=2), seed=5).save_to_preset(other)
    with pytest.raises(SettingError, match="trained on another encoder than"):
        build_language_trainer(dataclasses.replace(second, encoder=str(other)))
    aligned = str(tmp_path / "all" / "preset")  # its encoder has changed
    with pytest.raises(SettingError, match="trained on another encoder than"):
        build_language_trainer(dataclasses.replace(second, start=aligned))


@pytest.mark.slow
@pytest.mark.once
def test_both_phases_with_a_model_out_of_a_file(preset, shards, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("keras_hub")
    from tests.language.test_gguf_llama import write

    write(tmp_path / "tiny.gguf")
    decoder = f"gguf:{tmp_path / 'tiny.gguf'}"
    both = {"decoder": decoder, "row_length": 256, "learning_rate": 1e-3}
    both["decoder_tokenizer"] = None
    frozen = {"train_encoder": False, "train_decoder": False}
    first = config_of(preset, **both, **frozen)
    data = QuestionData(shards, shards)
    warm = align_language(first, data, RunOptions(tmp_path / "warm", progress=False))
    assert isinstance(warm.prompt, ChatPrompt)
    second = config_of(preset, **both, start=str(tmp_path / "warm" / "preset"))
    trained = align_language(second, data, RunOptions(tmp_path / "all", progress=False))
    pairs = list(zip(trained.decoder.weights, warm.decoder.weights, strict=True))
    assert any(np.any(to_numpy(new) != to_numpy(old)) for new, old in pairs)
    assert PELang.from_preset(str(tmp_path / "all" / "preset")).layer_scale == 0.1

    gone = dataclasses.replace(first, decoder="gguf:nowhere.gguf")
    with pytest.raises(SettingError, match=r"no file nowhere\.gguf"):
        check_alignment(gone)


@pytest.mark.quick
def test_rates_are_those_of_parts_that_are_trained(preset):
    config = config_of(preset, encoder_rate=0.1, decoder_rate=2.0)
    trainer = build_language_trainer(config).trainer
    assert part_rates(config, trainer) == {"pe_lang/": 0.1, "small_decoder/": 2.0}
    trainer.optimizer.build(trainer.trainable_variables)
    frozen = dataclasses.replace(config, train_encoder=False)
    assert part_rates(frozen, trainer) == {"small_decoder/": 2.0}


@pytest.mark.quick
def test_words_start_as_those_of_the_text_tower(tmp_path):
    folder = tmp_path / "core"
    core = perturb(dual_encoder())
    core.save_to_preset(folder, tokenizer=PETokenizer(8, 600))
    config = config_of(
        str(folder), core_words=True, decoder_tokenizer=None, decoder_dim=24
    )
    (_, model) = build_language_trainer(config)
    np.testing.assert_array_equal(
        to_numpy(model.decoder.token_embedding.embeddings),
        to_numpy(core.text_encoder.token_embedding.embeddings),
    )
    narrow = dataclasses.replace(config, decoder_dim=16)
    with pytest.raises(SettingError, match="decoder_dim=24"):
        build_language_trainer(narrow)


@pytest.mark.quick
def test_words_of_an_encoder_alone_are_refused(preset):
    with pytest.raises(SettingError, match="has no text tower"):
        start_words(config_of(preset, core_words=True), SmallDecoder(600, 16, 1, 2))


@pytest.mark.quick
def test_questions_are_scored_by_their_kind(preset, shards, tmp_path):
    model = build_language_trainer(config_of(preset)).model
    model.generate = lambda images, questions, most: [
        "The dog." if question.startswith("What") else "[000, 000, 500, 500]"
        for question in questions
    ]
    assert AnswerAccuracy(shards, model)() == {
        "answers": pytest.approx(3 / 13),
        "answers/count": 0.0,
        "answers/name": 0.5,
    }
    box = Question("Where?", "[000, 000, 500, 600]", "place")
    far = Question("Where?", "[500, 500, 999, 999]", "place")
    none = Question("Where?", "nowhere", "place")
    sample = {"__key__": "1", "json": question_member([box, far, none])}
    write_question_shards(tmp_path, "boxes", [sample])
    found = AnswerAccuracy(str(tmp_path / "*.tar"), model)()
    third = pytest.approx(1 / 3)
    assert found == {"answers": third, "answers/place": third}


@pytest.mark.quick
def test_an_answer_that_does_not_end_is_wrong(preset, tmp_path):
    model = build_language_trainer(config_of(preset)).model
    asked = Question("What?", "well well well", "name")
    sample = {"__key__": "1", "json": question_member([asked])}
    write_question_shards(tmp_path, "names", [sample])
    score = AnswerAccuracy(str(tmp_path / "*.tar"), model)
    assert score.max_tokens == 5  # three words, the end, and one more
    for words, right in ((3, 1.0), (4, 0.0)):
        ids = model.prompt.answer(" ".join(["well"] * words))
        model.generate = lambda images, questions, most, ids=ids: [
            model.prompt.text(ids[:most])
        ]
        assert score()["answers"] == right


@pytest.mark.quick
def test_what_can_t_be_asked_is_said_before_training(preset, tmp_path):
    model = build_language_trainer(config_of(preset)).model
    broken = image_bytes(3)[:40]
    cases = {
        "long": ({}, Question("well " * 36, "well " * 12), "that the language model"),
        "endless": ({}, Question("well " * 90, "a"), "endless-00000"),
        "mark": ({}, Question("a <end_of_text>", "a"), "<end_of_text>"),
        "image": ({"png": broken}, Question("a", "b"), "image-00000"),
    }
    for name, (more, asked, message) in cases.items():
        sample = {"__key__": "1", "json": question_member([asked]), **more}
        write_question_shards(tmp_path, name, [sample])
        with pytest.raises(SampleError, match=message):
            AnswerAccuracy(str(tmp_path / f"{name}-*.tar"), model)


# === What is refused ===
@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": "llama"}, "decoder='llama'"),
        ({"decoder": "hub:"}, "gguf:FILE or hub:PRESET"),
        ({"decoder": "gguf:"}, "gguf:FILE or hub:PRESET"),
        ({"train_decoder": False}, "as it was drawn"),
        ({"pooling": 0}, "pooling=0"),
        ({"projector_layers": 3}, "projector_layers=3"),
        ({"questions": 0}, "questions=0"),
        ({"encoder_rate": 0.0}, "encoder_rate=0.0"),
        ({"layer_scale": 0.0}, "layer_scale=0.0"),
        ({"merge": "sum"}, "merge='sum'"),
        ({"core_words": True}, "core_words=true takes the encoder's words"),
        ({"core_words": True, "decoder": "hub:x"}, "has its own vocabulary"),
        ({"augment": True}, "augment=True"),
        ({"stages": stages_of(16, (32, 64), (1, 1))}, "one stage"),
    ],
)
def test_configurations_that_can_not_run_are_refused(changes, message):
    with pytest.raises(SettingError, match=message):
        check_language(config_of("core", **changes))


@pytest.mark.quick
def test_squares_that_fill_no_image_are_refused(preset):
    with pytest.raises(SettingError, match="pooling=3: expected squares of 8 px"):
        build_language_trainer(config_of(preset, pooling=3))


@pytest.mark.quick
@pytest.mark.once
def test_phases_of_the_command_line(monkeypatch, capsys):
    def settings(*arguments):
        line = ["align_language", "--config", "smoke", "--settings", *arguments]
        monkeypatch.setattr("sys.argv", line)
        main()
        printed = capsys.readouterr().out.splitlines()
        return dict(line.split("=", 1) for line in printed)

    warmup = settings("--phase", "warmup")
    # A new decoder has to be trained.
    assert (warmup["train_encoder"], warmup["train_decoder"]) == ("false", "true")
    given = settings("--phase", "warmup", "--decoder", "hub:llama3.2_instruct_1b")
    assert (given["train_encoder"], given["train_decoder"]) == ("false", "false")
    align = settings("--phase", "align", "--start", "runs/warm/preset")
    assert (align["train_encoder"], align["train_decoder"]) == ("true", "true")
    assert align["start"] == "runs/warm/preset"


@pytest.mark.quick
@pytest.mark.once
def test_shards_without_questions_end_in_a_sentence(monkeypatch, capsys, tmp_path):
    member = json.dumps({"caption": "a cat"}).encode()
    sample = {"__key__": "1", "png": image_bytes(1), "json": member}
    members = [
        (f"{n}.{kind}", sample[kind]) for n in range(40) for kind in ("png", "json")
    ]
    (tmp_path / "x.tar").write_bytes(tar_bytes(members))
    line = ["align_language", "--config", "smoke", "--data", str(tmp_path / "x.tar")]
    monkeypatch.setattr("sys.argv", [*line, "--output", str(tmp_path / "run")])
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert "None of 512 samples can be used" in said
    assert "expected a field 'questions'" in said


@pytest.mark.quick
def test_the_plan_is_printed(monkeypatch, capsys):
    line = ["align_language", "--config", "smoke", "--plan", "--devices", "2"]
    monkeypatch.setattr("sys.argv", line)
    main()
    assert capsys.readouterr().out.startswith("smoke\n\nparameters: 2.")
    assert parse(["--plan"]).config == "paper-g14"
