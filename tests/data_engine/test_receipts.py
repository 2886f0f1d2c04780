"""Receipts: planted faults are refused by name, sound builds pass."""

import math

import numpy as np
import pytest

from keras_pe.data_engine import (
    Engine,
    FunctionLanguageModel,
    Limits,
    ReceiptError,
    Summary,
    check_receipt,
    clips_of_folder,
    receipt,
    run_engine,
)
from tests.data_engine.parts import folder_of, lines, stages

pytestmark = [pytest.mark.quick, pytest.mark.once]
WORDS = ["owl", "cat", "dog", "boat", "tree", "house", "train", "river"]
WORDS += ["cloud", "lamp", "fish", "bird"]


class Texts:
    """Embeds a caption as the direction of the clip's number in it."""

    def __init__(self, angle=0.0):
        self.angle = angle

    def encode(self, texts):
        numbers = [float(text.split()[0]) for text in texts]
        return np.array([direction(number + self.angle) for number in numbers])


def direction(number):
    return [math.cos(number), math.sin(number)]


def sound(count=200, **more):
    """Rows with different captions, each the nearest to its own clip."""
    rng = np.random.default_rng(0)
    return [
        {
            "key": f"{number:04}",
            "caption": f"{number * 6 / count} {' '.join(rng.permutation(WORDS))}",
            "embedding": direction(number * 6 / count),
            **more,
        }
        for number in range(count)
    ]


def problems(rows, limits=None, embedder=None):
    with pytest.raises(ReceiptError) as caught:
        check_receipt(receipt(rows, embedder), limits or Limits())
    return caught.value.problems


def test_a_sound_build_passes_and_is_described():
    found = receipt(sound(), Texts())
    check_receipt(found, Limits())
    assert found["clips"] == found["captioned"] == found["different_captions"] == 200
    assert found["same_caption"] == 1 / 200
    assert found["words"] == dict.fromkeys(("0%", "5%", "50%", "95%", "100%"), 13)
    assert found["repeated"] == 0
    assert found["matched"]["value"] == 1
    assert 0.9 < found["matched"]["low"] <= 1
    own, other = found["similarity"]["own"], found["similarity"]["other"]
    assert own == pytest.approx(1, abs=1e-6)
    assert other < 0.9


def test_one_caption_a_hundred_times_is_refused():
    rows = sound()
    for row in rows[50:150]:
        row["caption"] = "0.5 A video of something."
    (said,) = problems(rows)
    assert said.startswith("50.0% of the captions are '0.5 a video of something.'")
    check_receipt(receipt(rows), Limits(same_caption=None))
    check_receipt(receipt(rows), Limits(same_caption=0.5))


@pytest.mark.parametrize(("times", "passes"), [(2, True), (3, False), (12, False)])
def test_a_caption_that_came_twice_may_be_chance(times, passes):
    rows = sound(12)
    for row in rows[:times]:
        row["caption"] = "An OWL" if row["key"].endswith("1") else "an owl"
    if passes:
        check_receipt(receipt(rows), Limits())
    else:
        (said,) = problems(rows)
        assert "'an owl'" in said


def test_captions_of_other_clips_are_refused():
    rows = sound()
    captions = [row["caption"] for row in rows]
    order = np.random.default_rng(1).permutation(len(rows))
    for row, other in zip(rows, order, strict=True):
        row["caption"] = captions[other]
    (said,) = problems(rows, embedder=Texts())
    assert "closer to their own clip than to another one" in said
    check_receipt(receipt(rows), Limits())  # without an embedder it is not seen
    check_receipt(receipt(rows, Texts()), Limits(matched=None))


def test_one_caption_of_all_is_not_taken_for_matching():
    rows = sound()
    for row in rows:
        row["caption"] = "0.5 an owl"
    said = problems(rows, Limits(same_caption=None), Texts())
    assert "closer to their own" in said[0]


def test_runs_of_words_that_come_again_are_refused():
    rows = sound()
    for row in rows[:40]:
        row["caption"] += " and the owl and the owl and the owl and the owl" * 5
    (said,) = problems(rows)
    assert "of the runs of three words came in their caption before" in said


@pytest.mark.parametrize("answer", ["", " \n ", "...", "\u200b"])
def test_empty_answers_of_the_language_model_are_refused_by_name(tmp_path, answer):
    empty = FunctionLanguageModel(lambda text: answer, version=repr(answer))
    whole = Engine([], None, [*stages()[:3], Summary(empty)])
    found = clips_of_folder(folder_of(tmp_path / "clips", 3))
    with pytest.raises(ReceiptError, match="summary: an empty caption 3") as caught:
        run_engine(found, whole, tmp_path / "output")
    assert "None of 3 clips has a caption." in caught.value.problems
    failures = lines(tmp_path / "output" / "failures.jsonl")
    assert {row["failure"]["stage"] for row in failures} == {"summary"}


def test_failures_are_counted_by_stage_and_reason_but_for_those_left_out():
    failure = {"stage": "probe", "reason": "damaged video", "detail": ""}
    left = [
        {"stage": "content", "reason": "duplicate", "detail": ""},
        {"stage": "keep", "reason": "motion is too low", "detail": ""},
        {"stage": "choose", "reason": "others of its kind are better", "detail": ""},
        {"stage": "refined_caption", "reason": "refused by hand", "detail": ""},
    ]
    rows = sound(8) + [{"key": f"x{n}", "failure": each} for n, each in enumerate(left)]
    check_receipt(receipt(rows), Limits())
    rows += [{"key": "y", "failure": failure}, {"key": "z", "failure": failure}]
    found = receipt(rows)
    assert found["failures"]["probe: damaged video"] == 2
    assert len(found["failures"]) == 5
    assert found["failed_share"] == 2 / 14
    (said,) = problems(rows)
    assert said.startswith("14.3% of the clips failed (probe: damaged video 2, ")
    check_receipt(found, Limits(failed=0.2))


def test_all_that_is_wrong_is_said_at_once():
    rows = [{**row, "caption": "0.5 the owl the owl the owl the"} for row in sound(20)]
    rows += [{"key": "x", "failure": {"stage": "s", "reason": "r"}}] * 5
    assert len(problems(rows, embedder=Texts())) == 4


def test_a_receipt_depends_on_the_seed_alone():
    rows = sound(40)
    assert receipt(rows, Texts(0.3)) == receipt(rows, Texts(0.3))


def test_embeddings_of_another_model_missing_or_not_finite_are_refused():
    rows = sound(4)
    with pytest.raises(ValueError, match="0002 has no embedding to compare"):
        receipt([*rows[:2], {"key": "0002", "caption": "x"}], Texts())
    wide = [{**row, "embedding": [1.0, 0.0, 0.0]} for row in rows]
    with pytest.raises(ValueError, match="Clips have 3 numbers, texts 2"):
        receipt(wide, Texts())
    odd = [{**row, "embedding": [float("nan"), 0.0]} for row in rows]
    with pytest.raises(ValueError, match="NaN or infinity"):
        receipt(odd, Texts())


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "0.5", True])
def test_limits_that_are_no_shares_are_refused(value):
    with pytest.raises(ValueError, match="repeated="):
        Limits(repeated=value)


def test_an_error_travels_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(ReceiptError(["a.", "b."])))
    assert error.problems == ["a.", "b."]
    assert str(error) == "a. b."


def test_an_embedding_of_zeros_is_like_nothing():
    rows = sound(4)
    rows[0] = {**rows[0], "embedding": [0.0, 0.0]}
    said = receipt(rows, Texts())
    assert np.isfinite(said["similarity"]["own"])


def test_a_row_without_a_caption_is_named():
    with pytest.raises(ValueError, match="b: caption=None, expected text"):
        receipt([{"key": "a", "caption": "x"}, {"key": "b"}])
