"""Settings of probes that train: what makes no sense is refused, and said."""

import pytest

from keras_pe.probing import (
    Attentive,
    Depth,
    LanguageProbe,
    Segmentation,
    layer_for_llm,
)
from keras_pe.probing.training_settings import check_weight_decay, checked_rates
from tests.probing.asked import questions
from tests.probing.planted import planted_model

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps"),
        ({"learning_rates": ()}, "learning_rates"),
        ({"learning_rates": (0.0,)}, "learning_rates"),
        ({"learning_rates": (float("nan"),)}, "learning_rates"),
        ({"learning_rates": 1e-3}, r"a list of .* above 0, such as .*, got 0\.001"),
        ({"learning_rates": (True,)}, r"got \(True,\)"),
        ({"learning_rates": ("1e-3",)}, r"got \('1e-3',\)"),
        ({"weight_decay": "x"}, "weight_decay must be a number .* got 'x'"),
        ({"weight_decay": -0.1}, r"weight_decay must be .* got -0\.1"),
        ({"weight_decay": True}, "weight_decay must be .* got True"),
        ({"weight_decay": float("nan")}, "weight_decay must be .* got nan"),
        ({"weight_decay": float("inf")}, "weight_decay must be .* got inf"),
        ({"weight_decay": None}, "weight_decay must be .* got None"),
        ({"max_tokens": 1.5}, "max_tokens must be a whole number"),
        ({"batch_size": "x"}, "batch_size must be a whole number"),
        ({"pooling": True}, "pooling must be a whole number"),
        ({"depth": 3}, "depth must be 1 or 2, got 3"),
        ({"depth": True}, "depth must be 1 or 2, got True"),
        ({"merge": "mean"}, "merge must be .* got 'mean'"),
        ({"blind_control": "no"}, "blind_control must be True or False, got 'no'"),
        ({"metric": "bleu"}, "no metric 'bleu'"),
        ({"metric": ["exact"]}, r"no metric \['exact'\]"),
        ({"decoder": lambda: None}, "give prompt"),
    ],
)
def test_settings_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        LanguageProbe(**options)


def test_settings_that_make_sense_are_kept():
    probe = LanguageProbe(weight_decay=0, learning_rates=[1], depth=1, merge="shuffle")
    assert (probe.weight_decay, probe.learning_rates) == (0, (1,))
    assert checked_rates(rate for rate in (1e-3, 1.0)) == (1e-3, 1.0)
    check_weight_decay(0.5)


@pytest.mark.parametrize("probe", [Attentive, Segmentation, Depth])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_decay": "x"}, "weight_decay must be a number .* got 'x'"),
        ({"learning_rates": 1e-3}, r"learning_rates must be a list .* got 0\.001"),
        ({"epochs": 0}, "epochs must be a whole number of at least 1, got 0"),
        ({"batch_size": True}, "batch_size must be a whole number .* got True"),
    ],
)
def test_heads_of_other_probes_are_refused_alike(probe, options, message):
    with pytest.raises(ValueError, match=message):
        probe(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix_tokens": -1}, "prefix_tokens must be .* at least 0, got -1"),
        ({"prefix_tokens": True}, "prefix_tokens must be .* got True"),
        ({"prefix_tokens": float("nan")}, "prefix_tokens must be .* got nan"),
        ({"prefix_tokens": "x"}, "prefix_tokens must be .* got 'x'"),
        ({"norm": "no"}, "norm must be True or False, got 'no'"),
        ({"norm": float("nan")}, "norm must be True or False, got nan"),
        ({"batch_size": float("inf")}, "batch_size must be a whole number"),
        ({"bootstrap_repeats": "x"}, "bootstrap_repeats must be a whole number"),
        ({"seeds": (True,)}, "Seeds must be whole numbers"),
        ({"seeds": ()}, "seeds must be a tuple of at least one"),
    ],
)
def test_what_is_no_question_of_a_layer_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        layer_for_llm(planted_model(1), data=questions(6), **options)
