"""The language probe: trained alike on each layer, scored by greedy answers."""

import functools
import json
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.arrays import NonFiniteError
from keras_pe.language import SmallDecoder
from keras_pe.probing import (
    LanguageLayers,
    QuestionSet,
    layer_for_llm,
    paired_gain,
    question_targets,
)
from keras_pe.probing.language_head import AnswerTrainer
from keras_pe.probing.layer_outputs import LayerOutputs
from tests.arrays import to_numpy
from tests.probing.asked import SMALL, prompt, questions, quick_probe
from tests.probing.planted import noise, planted_model
from tests.probing.stored import stored

SHAPE = (2, 2, 5)


def samples_of(features, count=30, validation=6, test=6):
    (targets,) = question_targets(questions(count + validation + test, several=True))
    return stored(features.astype("float32"), targets, count, validation, test)


def random_features(count=42):
    return np.random.default_rng(0).normal(size=(count, *SHAPE))


# === The answer of a user's question ===
@pytest.mark.slow
@pytest.mark.compiled
def test_the_layer_that_knows_is_found_and_the_encoder_sees_each_image_once(
    monkeypatch, tmp_path
):
    def written(result):
        result.to_json(tmp_path / "layers.json", resampled=True)
        return (tmp_path / "layers.json").read_text()

    model, seen, encode = planted_model(2), [], LayerOutputs.__call__

    def noted(outputs, images, reading):
        seen.extend(images)
        return encode(outputs, images, reading)

    monkeypatch.setattr(LayerOutputs, "__call__", noted)
    data = questions(90, several=True)
    result = layer_for_llm(
        model, data=data, layers=[2, 3], probe=quick_probe(), seeds=(0,), progress=False
    )
    assert result.best_layer == 2
    assert result.overall[2].score > 0.9
    assert result.overall.differs_from_last
    for guess in (
        result.blind,
        result.constant,
        result.shuffled,
        result.overall[3].score,
    ):
        assert guess < 0.75
    assert list(result.kinds) == ["name", "yes or no"]
    assert result.kinds["name"][2].score > 0.9
    assert result.kinds["name"].baseline < 0.7
    counts = [result.kinds[kind].protocol["test"] for kind in result.kinds]
    assert counts[1] < counts[0] == 18
    assert "Read layer 2, not the last one (3)" in str(result)
    assert str(result).count("blind") == 1
    again = LanguageLayers.from_dict(json.loads(written(result)))
    assert str(again) == str(result)
    assert again.unparsable == result.unparsable
    of_kinds = [each.kinds["name"] for each in (result, again)]
    assert paired_gain(*of_kinds, layer=2, other_layer=2).gain == 0
    assert len(seen) == 96  # 90 in batches of 32, the last one filled up
    np.testing.assert_array_equal(seen[:90], data.images)


@pytest.mark.slow
@pytest.mark.once
def test_of_layers_without_an_answer_none_is_best():
    result = layer_for_llm(
        planted_model(0),
        data=questions(60),
        layers=[1, 2],
        probe=quick_probe(steps=20),
        seeds=(0,),
        progress=False,
    )
    assert result.best_layer is None
    assert "No layer is called best" in result.recommendation()


# === The head ===
def head_and_rows(samples, probe):
    train = samples[0]
    return probe._trainer.head(SHAPE), probe._training_rows(train, SHAPE, 0)


def logits_alone(head, document, features, more=()):
    """Returns the logits of a document alone, with some tokens behind it.

    Padded to one length, which a causal model does not see.
    """
    tokens = to_numpy(head.image_tokens(ops.convert_to_tensor(features[None])))
    ids = np.zeros((1, 24), "int32")
    ids[0, : len(document) + len(more)] = [*document.token_ids, *more]
    x = to_numpy(head.decoder.embed(ids)).copy()
    x[0, : len(document)][document.image] = tokens[0]
    return to_numpy(head.decoder.logits(head.decoder.run(ops.convert_to_tensor(x))))[0]


@pytest.mark.slow
def test_a_step_s_loss_is_that_of_each_answer_after_its_image_and_question():
    probe = quick_probe(steps=2, batch_size=4)
    with samples_of(random_features()) as samples:
        head, rows = head_and_rows(samples, probe)
        batch = rows.batch(samples[0], 0)
        chosen = [each for row in rows.rows[: rows.rows_a_step] for each in row]
        loss = float(to_numpy(head(batch)))
        cost = count = 0.0
        for document in chosen:
            features, _ = samples[0].batch(np.array([document.image_number]))
            logits = logits_alone(head, document, features)
            shares = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            places = np.flatnonzero(document.answer)
            cost -= shares[places - 1, document.token_ids[places]].sum()
            count += len(places)
    assert loss == pytest.approx(cost / count, rel=1e-4)


@pytest.mark.slow
def test_a_head_that_was_used_before_is_trained_as_a_new_one():
    """Weights, moments and the count of steps are those of a first training."""
    with samples_of(random_features()) as (train, _, _):

        def trained(probe, rate, seed):
            rows = probe._training_rows(train, SHAPE, seed)
            batches = functools.partial(rows.batch, train)
            return probe._trainer.fit(SHAPE, batches, rate, seed)[0]

        used, fresh = (quick_probe(steps=2, batch_size=8) for _ in range(2))
        trained(used, 3e-3, 1)
        ours, theirs = trained(used, 1e-3, 0), trained(fresh, 1e-3, 0)
        other = trained(fresh, 3e-3, 0)
    for mine, its in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, its, atol=1e-6)
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(ours, other, strict=True))
    assert len(used._trainer._heads) == 1


@pytest.mark.slow
def test_greedy_answers_are_those_of_the_likeliest_token_one_by_one():
    probe = quick_probe(steps=2)
    with samples_of(random_features()) as (train, validation, test):
        fitted = probe.fit(train, validation, 0)
        asked, answers, _ = fitted.answers(test)
        head, how = probe._trainer.head(SHAPE), prompt(1)
        for row, answer in list(zip(asked, answers, strict=True))[:3]:
            document = how.question(row.question)
            features, _ = test.batch(np.array([row.image]))
            ids = []
            while len(ids) < probe.max_tokens and how.stop_id not in ids:
                logits = logits_alone(head, document, features, ids)
                ids.append(int(logits[len(document) + len(ids) - 1].argmax()))
            assert how.text(ids) == answer


@pytest.mark.slow
@pytest.mark.parametrize("rate", [1e-2, 1e30])
def test_a_decoder_that_is_given_stays_as_it_is(rate):
    keras.utils.set_random_seed(0)
    decoder = SmallDecoder(2000, **SMALL)
    decoder.blocks[0].trainable = False
    decoder.blocks[0].attention.trainable = True
    decoder.blocks[0].attention.qkv.bias.trainable = False

    def state():
        layers = [layer.trainable for layer in decoder._flatten_layers()]
        trained = [variable.path for variable in decoder.trainable_variables]
        flags = [variable.trainable for variable in decoder.variables]
        return layers, trained, flags

    before = [to_numpy(weight).copy() for weight in decoder.weights]
    flags = state()
    assert len(set(flags[0])) == len(set(flags[2])) == 2
    probe = quick_probe(decoder=decoder, steps=3, learning_rates=(rate,))
    with samples_of(random_features()) as (train, validation, test):
        if rate == 1e30:
            with pytest.raises(NonFiniteError):
                probe.fit(train, validation, 0)
        else:
            fitted = probe.fit(train, validation, 0)
            assert len(fitted.weights) == 6  # norm and projector
            fitted.answers(test)
    for old, new in zip(before, decoder.weights, strict=True):
        np.testing.assert_array_equal(old, to_numpy(new))
    assert state() == flags


def half_frozen():
    decoder = SmallDecoder(2000, **SMALL)
    decoder.blocks[0].attention.trainable = False
    return decoder


@pytest.mark.slow
def test_a_function_that_gives_the_same_decoder_again_is_refused():
    decoder = SmallDecoder(2000, **SMALL)
    with samples_of(random_features()) as (train, validation, _):
        probe = quick_probe(decoder=lambda: decoder)
        probe._trainer._losses = None  # none is trained
        with pytest.raises(ValueError, match="Return a new one each time"):
            probe.fit(train, validation, 0)
        probe = quick_probe(decoder=half_frozen, steps=1)
        weights = probe.fit(train, validation, 0).weights
        assert len(weights) == 6 + len(half_frozen().trainable_variables)


@pytest.mark.quick
@pytest.mark.once
def test_a_decoder_of_fewer_words_than_the_tokenizer_has_is_refused():
    probe = quick_probe(decoder=SmallDecoder(600, **SMALL))
    with pytest.raises(ValueError, match="2000 ids, and the decoder 600"):
        probe._parts.head(SHAPE)


@pytest.mark.slow
def test_a_rate_that_diverges_is_passed_over_and_of_none_is_told():
    features = random_features()
    with samples_of(features) as (train, validation, _):
        probe = quick_probe(steps=4, learning_rates=(1e30, 1e-3))
        assert probe.fit(train, validation, 0).setting["learning_rate"] == 1e-3
        probe.learning_rates = (1e30,)
        with pytest.raises(NonFiniteError, match=r"learning rate 1e\+30"):
            probe.fit(train, validation, 0)


def rows_of(count, answer="a cat", kind="name", first=0):
    return [(n, "What is it?", answer, kind) for n in range(first, count)]


@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize(
    ("data", "options", "message", "encoded"),
    [
        ([rows_of(9)] * 3, {"metric": {"count": "exact"}}, "kind 'name'", False),
        ([rows_of(9)] * 3, {"metric": "number"}, "'a cat' is no number", False),
        (
            [rows_of(9), rows_of(9), rows_of(9, "0.1, 0.2", "where")],
            {"metric": {"": "exact", "where": "box"}},
            "'0.1, 0.2' is no box",
            False,
        ),
        ([rows_of(9)], {"metric": "number"}, "'a cat' is no number", False),
        ([rows_of(2)], {}, "asked about (validation|test) images, [12] in all", True),
        ([rows_of(9)] * 3, {"pooling": 3}, "pooling=3 fills no layer of 4x4", True),
        (
            [rows_of(9)] * 3,
            {"decoder": {**SMALL, "max_length": 16}, "max_tokens": 8},
            "reads at most 16 tokens, got 18 of prompt and answer",
            True,
        ),
        (
            [rows_of(9, "a cat that is at home"), rows_of(9), rows_of(9)],
            {"decoder": {**SMALL, "max_length": 16}, "max_tokens": 1},
            "reads at most 16 tokens, got 18 of prompt and answer",
            True,
        ),
        (
            [rows_of(9), rows_of(9), rows_of(9, "a <end_of_text>")],
            {},
            "has <end_of_text> in it",
            True,
        ),
        (
            [rows_of(9), rows_of(9), rows_of(9, "a cat at home")],
            {"max_tokens": 4},
            r"test images has 6 tokens with its end \('What is it\?' with 'a cat at "
            r"home'\), and an answer may have max_tokens=4",
            True,
        ),
        ([rows_of(9), rows_of(9), rows_of(1)], {}, "1 test samples have one", True),
        ([rows_of(9), rows_of(1), rows_of(9)], {}, "1 validation samples have", True),
    ],
)
def test_what_can_t_be_scored_is_refused_before_any_training(
    monkeypatch, data, options, message, encoded
):
    images, seen, encode = noise(9), [], LayerOutputs.__call__

    def noted(outputs, images, reading):
        seen.extend(images)
        return encode(outputs, images, reading)

    monkeypatch.setattr(LayerOutputs, "__call__", noted)
    monkeypatch.setattr(AnswerTrainer, "fit", None)
    sets = [
        QuestionSet(images if len(rows) != 1 else images[:1], rows) for rows in data
    ]
    with pytest.raises(ValueError, match=message):
        layer_for_llm(
            planted_model(1),
            data=sets if len(sets) == 3 else sets[0],
            probe=quick_probe(**options),
            progress=False,
        )
    assert bool(seen) == encoded


@pytest.mark.slow
@pytest.mark.once
def test_with_one_image_to_choose_by_there_is_no_blind_control():
    sets = [QuestionSet(noise(n), rows_of(n)) for n in (9, 1, 9)]
    result = layer_for_llm(
        planted_model(1),
        data=sets,
        layers=[1],
        probe=quick_probe(blind_control=False, steps=1),
        seeds=(0,),
        progress=False,
    )
    assert result.blind is None


@pytest.mark.quick
@pytest.mark.once
def test_images_that_were_seen_before_are_told_of(monkeypatch):
    class Stopped(Exception):
        pass

    def stop(*_):
        raise Stopped

    monkeypatch.setattr(AnswerTrainer, "fit", stop)
    images = noise(27)

    def told(*parts):
        sets = [QuestionSet(images[part], rows_of(9)) for part in parts]
        model, probe = planted_model(1), quick_probe()
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            with pytest.raises(Stopped):
                layer_for_llm(model, data=sets, probe=probe, progress=False)
        return [str(x.message) for x in found if "seen before" in str(x.message)]

    apart = slice(0, 9), slice(9, 18), slice(18, 27)
    assert told(*apart) == []
    assert (
        "2 of 9 test images were seen before, such as number 7, a training"
        in (told(apart[0], apart[1], [*range(18, 25), 3, 4])[0])
    )
    assert "such as number 0, a validation" in told(apart[0], apart[1], apart[1])[0]


@pytest.mark.quick
@pytest.mark.once
def test_data_of_another_kind_are_refused():
    for data in ([questions(6), questions(6)], None, "questions"):
        with pytest.raises(TypeError, match="three of them"):
            layer_for_llm(planted_model(1), data=data)
    with pytest.raises(TypeError, match=r"probe must be a LanguageProbe.*'ridge'"):
        layer_for_llm(planted_model(1), data=questions(6), probe="ridge")
    with pytest.raises(ValueError, match="Give the decoder to the probe"):
        layer_for_llm(planted_model(1), SMALL, data=questions(6), probe=quick_probe())
