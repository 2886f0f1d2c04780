"""Choosing clips: the best of each cluster, whatever the order."""

import numpy as np
import pytest

from keras_pe.data_engine import Choose

pytestmark = [pytest.mark.quick, pytest.mark.once]
CENTRES = np.array([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]])


def rows(count=30):
    rng = np.random.default_rng(0)
    found = []
    for number in range(count):
        vector = CENTRES[number % 3] + rng.normal(0, 0.01, 3)
        motion = round(float(rng.uniform()), 5)
        found.append(
            {
                "key": f"{number:02}",
                "content": f"{number}",
                "motion": motion,
                "embedding": vector.tolist(),
            }
        )
    return found


def kept(found):
    return [row["key"] for row in found if "failure" not in row]


def test_the_best_of_each_cluster_stay():
    given = rows()
    expected = []
    for kind in range(3):
        order = sorted(given[kind::3], key=lambda row: -row["motion"])
        expected += [row["key"] for row in order[:2]]
    found = Choose(3, 2, "motion")(given)
    assert kept(found) == sorted(expected)
    assert [row["key"] for row in found] == [row["key"] for row in given]
    assert len({row["cluster"] for row in found}) == 3
    for kind in range(3):
        assert len({row["cluster"] for row in found[kind::3]}) == 1
    (failure,) = {row["failure"]["reason"] for row in found if "failure" in row}
    assert failure == "others of its kind are better"


def test_it_is_the_same_again():
    first, second = (Choose(4, 2, "motion", seed=3)(rows()) for _ in range(2))
    assert first == second


def test_ties_go_to_the_first_name():
    given = [{**row, "motion": 0.5} for row in rows()]
    assert kept(Choose(3, 1, "motion")(given)) == ["00", "01", "02"]


def test_fewer_clips_than_clusters_all_stay():
    assert len(kept(Choose(50, 1, "motion")(rows(5)))) == 5


def test_equal_clips_are_one_cluster_without_a_warning(recwarn):
    given = [{**row, "embedding": [1.0, 0.0, 0.0]} for row in rows(6)]
    assert len(kept(Choose(3, 2, "motion")(given))) == 2
    assert not recwarn.list


def test_failed_rows_pass_and_count_for_nothing():
    failed = {"key": "x", "failure": {"stage": "probe", "reason": "damaged"}}
    found = Choose(3, 1, "motion")([failed, *rows()])
    assert found[0] is failed
    assert len(kept(found)) == 3
    assert Choose(3, 1, "motion")([failed]) == [failed]
    assert Choose(3, 1, "motion")([]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"embedding": None}, "x has no embedding"),
        ({"motion": None}, "x has no motion"),
        ({"motion": "high"}, "x: motion='high'"),
        ({"motion": float("nan")}, "x: motion=nan"),
        ({"embedding": [float("nan"), 0, 0]}, "NaN or infinity"),
    ],
)
def test_rows_that_can_not_be_chosen_from_are_named(change, said):
    row = {**rows(1)[0], "key": "x", **change}
    row = {name: value for name, value in row.items() if value is not None}
    with pytest.raises(ValueError, match=said):
        Choose(3, 1, "motion")([*rows(), row])


@pytest.mark.parametrize("numbers", [(0, 1), (1, 0), (1.5, 1), (True, 1)])
def test_numbers_that_make_no_sense_are_refused(numbers):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        Choose(*numbers, "motion")
