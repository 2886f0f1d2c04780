"""What shards as a run's data refuse before anything is read."""

import pytest

from keras_pe.training.run.shard_data import ShardData

pytestmark = [pytest.mark.quick, pytest.mark.once]


@pytest.mark.parametrize("workers", [-1, 1.5, True, float("nan")])
def test_workers_are_a_number(workers):
    with pytest.raises(ValueError, match=f"workers={workers}: expected 0 or more"):
        ShardData("none", workers=workers)


@pytest.mark.parametrize("seconds", [0, -2.0, float("nan")])
def test_workers_get_time_to_start(seconds):
    with pytest.raises(ValueError, match=f"start_timeout={seconds}: expected more"):
        ShardData("none", start_timeout=seconds)
