"""Samples into steps: totals are exact, shares are kept."""

import itertools

import pytest

from keras_pe.training.resolution import (
    ABLATION_STAGES,
    PlannedStage,
    ResolutionStage,
    extended,
    plan_stages,
    rescaled,
)

pytestmark = [pytest.mark.quick, pytest.mark.once]


def stages(*pairs):
    return [ResolutionStage(size, samples) for size, samples in pairs]


def test_ablation_of_the_paper():
    plan = plan_stages(ABLATION_STAGES, batch_size=65_536, patch_size=14)
    assert [stage.image_size for stage in plan] == [98, 154, 224, 336]
    assert sum(stage.num_steps for stage in plan) == round(24e9 / 65_536)
    shares = [stage.num_steps * 65_536 / 1e9 for stage in plan]
    assert shares == pytest.approx([10, 8, 4, 2], abs=1e-4)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 64, 100])
def test_steps_are_contiguous_and_add_up(batch_size):
    given = stages((32, 1001), (48, 333), (64, 217))
    plan = plan_stages(given, batch_size)
    assert plan[0].first_step == 0
    for before, after in itertools.pairwise(plan):
        assert after.first_step == before.first_step + before.num_steps
    total = sum(stage.num_steps for stage in plan)
    assert abs(total * batch_size - 1551) <= batch_size / 2
    # Rounding every stage by itself would drift by up to a half step each.
    seen = 0
    for stage, planned in zip(given, plan, strict=True):
        seen += stage.samples
        end = planned.first_step + planned.num_steps
        assert abs(end * batch_size - seen) <= batch_size / 2


def test_rounding_is_exact_beyond_float64():
    huge = 10**17 + 1  # float64 rounds this number to 10**17
    assert plan_stages(stages((32, huge)), 2) == [PlannedStage(32, 0, huge // 2 + 1)]


def test_a_plan_is_made_of_plain_tuples():
    image_size, first_step, num_steps = plan_stages(stages((32, 10)), 5)[0]
    assert (image_size, first_step, num_steps) == (32, 0, 2)


def test_rescaled_as_the_paper_shortens_its_runs():
    for share in (3, 2, 1):  # 120K, 240K and 360K steps of 65,536 samples
        total = 24 * 10**9 * share // 3
        found = rescaled(ABLATION_STAGES, total)
        assert sum(stage.samples for stage in found) == total
        assert [s.samples * 3 // share for s in found] == pytest.approx(
            [stage.samples for stage in ABLATION_STAGES], rel=1e-9
        )
        assert [s.image_size for s in found] == [98, 154, 224, 336]


def test_rescaled_total_is_exact():
    found = rescaled(stages((32, 3), (48, 3), (64, 3)), 1000)
    assert sum(stage.samples for stage in found) == 1000
    assert [stage.samples for stage in found] == [333, 334, 333]


@pytest.mark.parametrize(
    ("size", "patch", "near"), [(100, 14, "98 or 112"), (10, 16, "take 16")]
)
def test_sizes_must_be_multiples_of_the_patch(size, patch, near):
    with pytest.raises(ValueError, match=near):
        plan_stages(stages((size, 100)), 10, patch_size=patch)
    assert plan_stages(stages((size, 100)), 10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ResolutionStage(0, 10), "image_size=0"),
        (lambda: ResolutionStage(32, -1), "samples=-1"),
        (lambda: ResolutionStage(32, 1e9), "samples=1000000000.0"),
        (lambda: plan_stages([], 10), "no stage"),
        (lambda: plan_stages(stages((32, 10)), 0), "batch_size=0"),
        (lambda: plan_stages(stages((32, 100), (64, 2)), 50), "2 samples at 64"),
        (lambda: rescaled([], 10), "no stage"),
        (lambda: rescaled(stages((32, 9), (64, 1)), 1), "total_samples=1"),
        (lambda: rescaled(stages((32, 99), (64, 1)), 10), "none at 64"),
        (lambda: rescaled(stages((32, 9)), 2.5), "total_samples=2.5"),
    ],
)
def test_nonsense_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_a_longer_schedule_keeps_what_comes_before_its_last_stage():
    stages = [ResolutionStage(98, 600), ResolutionStage(224, 400)]
    longer = extended(stages, 1500)
    assert longer == [stages[0], ResolutionStage(224, 900)]
    for total in (1000, 999):
        with pytest.raises(ValueError, match="the run has 1000 already"):
            extended(stages, total)
