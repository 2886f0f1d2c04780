"""The distillation recipe's configurations and command line."""

import pytest

from recipes import distill


@pytest.mark.quick
def test_configurations_of_the_paper():
    student = distill.CONFIGS["paper-b16"].student
    assert student.batch_size == 16_384  # table 20
    assert student.samples == 269_000 * 16_384
    assert student.learning_rate == 1e-6
    assert student.stages[0].image_size == 448
    assert not student.augment
