"""The sweep of probes that train nothing: clips and pairs, one after the other."""

import functools
import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from keras_pe.arrays import check_finite
from keras_pe.probing.layer_outputs import LayerOutputs
from keras_pe.probing.probe import TrainingFreeProbe
from keras_pe.probing.sweep_result import SweepResult
from keras_pe.probing.sweep_summary import LayerOutcome, summarize


def sweep_items(
    outputs: LayerOutputs,
    probe: TrainingFreeProbe,
    items: Iterable[Any],
    validation_share: float,
    repeats: int,
    progress: bool,
) -> SweepResult:
    """Scores every layer on items of several images, such as clips.

    Every item goes through the encoder once and is then forgotten.

    Args:
        outputs: gives the layers.
        probe: measures an item.
        items: clips or pairs.
        validation_share: share of the items that choose the best layer, every n-th.
        repeats: resampled sets of items for the intervals.
        progress: whether a progress bar is shown.

    Raises:
        ValueError: if there are fewer than two items.
        NonFiniteError: if a layer gives NaN or infinity, naming layer and item.
    """
    from tqdm import tqdm

    statistics, guesses = [], []
    bar = tqdm(items, desc=probe.name, unit=" items", disable=not progress)
    for number, item in enumerate(bar):
        name = f"item {number} ({getattr(item, 'name', '') or 'no name'})"
        maps = functools.partial(_finite_maps, outputs, name)
        statistics.append(probe.measure(item, maps))
        guesses.append(probe.baseline(item))
    if len(statistics) < 2:
        raise ValueError(
            f"{probe.name} needs at least two items, one to choose the layer and one "
            f"to test it; got {len(statistics)}."
        )
    every = max(2, round(1 / validation_share))
    chosen = np.arange(len(statistics)) % every == 0
    table = np.array(statistics)  # (items, layers, statistics)
    blind = np.array(guesses)[~chosen]  # of the items alone: it tells them apart
    outcomes = []
    for number in range(len(outputs.names)):
        test = table[~chosen, number]
        score = float(probe.score(test.mean(axis=0)))
        validation = float(probe.score(table[chosen, number].mean(axis=0)))
        outcomes.append(LayerOutcome(test, validation, [{}], [score]))
    return summarize(
        probe,
        outputs.names,
        outcomes,
        blind,
        repeats=repeats,
        protocol={
            "encoder": outputs.encoder.name,
            "reading": "map",
            "norm": outputs.norm,
            "validation": int(chosen.sum()),
            "test": int((~chosen).sum()),
            "test_sha256": hashlib.sha256(blind.tobytes()).hexdigest(),
            "validation_share": validation_share,
            "bootstrap_repeats": repeats,
        },
        encoder=outputs.encoder,
    )


def _finite_maps(
    outputs: LayerOutputs, item: str, images: np.ndarray
) -> list[np.ndarray]:
    """Returns the maps of all layers, or says which one of which item holds NaN."""
    values = outputs(images, "map")
    return [
        check_finite(value, f"features of layer {layer} of {item}", "image")
        for layer, value in zip(outputs.names, values, strict=True)
    ]


def list_of_items(data: Any) -> Iterable[Any]:
    """Returns the items of a sweep's data: an iterable, or what a function returns."""
    return data() if callable(data) else data
