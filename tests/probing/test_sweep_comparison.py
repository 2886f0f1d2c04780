"""Gains between sweeps against the same computed by hand."""

import dataclasses
import json

import numpy as np
import pytest

from keras_pe.probing import NearestNeighbours, SweepResult, paired_gain, sweep
from tests.probing.planted import classified, planted_model

pytestmark = pytest.mark.quick
QUIET = {"progress": False, "bootstrap_repeats": 200, "probe": NearestNeighbours([3])}


def one_sweep(best=2, count=60, **options):
    return sweep(planted_model(best), classified(count), **{**QUIET, **options})


def test_the_gain_is_of_scores_on_the_same_resampled_sets():
    first, second = one_sweep(best=2), one_sweep(best=1)
    found = paired_gain(first, second, layer=2, other_layer=2)
    assert found.gain == first[2].score - second[2].score
    assert found.layers == found.other_layers == (2,)
    place = [row.layer for row in first.layers].index(2)
    by_hand = first.resampled[place] - second.resampled[place]
    expected = np.quantile(by_hand, [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(expected.tolist())
    assert found.low <= found.gain <= found.high
    assert f"{found.gain:+.4f}" in str(found)
    other_way = paired_gain(second, first, layer=2, other_layer=2)
    assert other_way.gain == -found.gain


def test_seeds_are_averaged_before_the_interval():
    results = [one_sweep(best=2), one_sweep(best=0)]
    other = one_sweep(best=1)
    found = paired_gain(results, other, layer=2, other_layer=2)
    alone = [paired_gain(result, other, layer=2, other_layer=2) for result in results]
    assert found.of_each == tuple(each.gain for each in alone)
    assert found.gain == pytest.approx(np.mean(found.of_each))
    # One each, in order, is the same where the others are the same.
    assert paired_gain(results, [other, other], 2, 2) == found


def test_best_and_last_are_what_the_sweep_chose():
    first, second = one_sweep(best=2), one_sweep(best=1)
    found = paired_gain(first, second)
    assert found.layers == (first.last_layer,)
    assert found.other_layers == (second.candidate,)


def test_of_an_error_less_is_a_gain():
    first, second = (
        dataclasses.replace(one_sweep(best), higher_is_better=False) for best in (2, 1)
    )
    found = paired_gain(first, second, layer=2, other_layer=2)
    assert found.gain == second[2].score - first[2].score < 0
    assert found.high < 0


def test_a_result_against_itself_has_no_chance_in_it():
    result = one_sweep()
    found = paired_gain(result, result, layer=1, other_layer=1)
    assert (found.gain, found.low, found.high) == (0.0, 0.0, 0.0)


def test_equals_on_few_samples_are_not_sure():
    first, second = one_sweep(best=2), one_sweep(best=2)
    found = paired_gain(first, second, layer=2, other_layer=2)
    assert found.gain == 0.0
    assert found.low < -0.1
    assert found.high > 0.1


def test_a_file_keeps_what_is_compared_if_asked_to(tmp_path):
    first, second = one_sweep(best=2), one_sweep(best=1)
    first.to_json(tmp_path / "first.json", resampled=True)
    read = SweepResult.from_dict(json.loads((tmp_path / "first.json").read_text()))
    assert read == first
    assert paired_gain(read, second) == paired_gain(first, second)
    first.to_json(tmp_path / "first.json")
    read = SweepResult.from_dict(json.loads((tmp_path / "first.json").read_text()))
    with pytest.raises(ValueError, match="resampled=True"):
        paired_gain(read, second)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"probe": NearestNeighbours([5])}, "its settings"),
        ({"probe": "ridge"}, "probe: knn and ridge"),
        ({"count": 50}, "test samples: 12 and 10"),
        ({"bootstrap_repeats": 100}, "resampled sets: 200 and 100"),
    ],
)
def test_sweeps_of_other_tasks_are_refused(options, what):
    with pytest.raises(ValueError, match=f"differ in {what}"):
        paired_gain(one_sweep(), one_sweep(**options))


def test_other_targets_are_refused():
    images, labels = classified(60)
    other = sweep(planted_model(2), (images, labels[::-1].copy()), **QUIET)
    with pytest.raises(ValueError, match="test targets"):
        paired_gain(one_sweep(), other)


def test_as_many_others_or_one():
    result = one_sweep()
    with pytest.raises(ValueError, match="3 sweeps against 2"):
        paired_gain([result] * 3, [result] * 2)
    with pytest.raises(ValueError, match="0 sweeps"):
        paired_gain([], result)
    with pytest.raises(KeyError, match="was not swept"):
        paired_gain(result, result, layer=9)
