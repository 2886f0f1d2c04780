"""What can be wrong with the arguments of a sweep."""

from typing import Any

from keras_pe.arrays import is_whole
from keras_pe.probing.layer_outputs import Reading
from keras_pe.probing.probe import Probe


def checked_reading(probe: Probe, reading: Reading | None) -> Reading:
    """Returns what is read of a layer, or says what the probe can read."""
    if reading is None:
        return probe.readings[0]
    if reading not in probe.readings:
        raise ValueError(
            f"The {probe.name} probe reads {' or '.join(probe.readings)}, got "
            f"{reading!r}."
        )
    return reading


def check_shares(validation_share: float, test_share: float) -> None:
    """Says if shares leave nothing."""
    if not (0 < validation_share < 1 and 0 <= test_share < 1) or (
        validation_share + test_share >= 1
    ):
        raise ValueError(
            f"validation_share={validation_share} and test_share={test_share}: "
            f"expected shares between 0 and 1 that leave something to train on."
        )


def check_seeds(seeds: Any) -> None:
    """Says if there are no seeds, or one is no whole number of at least 0."""
    if not isinstance(seeds, list | tuple | range) or not seeds:
        raise ValueError(
            f"seeds must be a tuple of at least one, such as (0,), got {seeds!r}."
        )
    for seed in seeds:
        if not is_whole(seed) or seed < 0:
            raise ValueError(
                f"Seeds must be whole numbers of at least 0, got {seed!r}."
            )
