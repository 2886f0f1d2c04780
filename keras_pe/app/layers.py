"""Which layer tells the classes of a visitor's pictures apart."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from keras_pe.app.class_pictures import ClassPictures
from keras_pe.app.maps import drawn
from keras_pe.models.preset_parts import PresetParts
from keras_pe.preprocessing.image_errors import ImageError
from keras_pe.probing import SweepResult, plot_sweeps, sweep
from keras_pe.probing.folder_data import spread

Progress = Callable[[float, str], Any]
PROBES = {"ridge regression": "ridge", "nearest neighbours": "knn"}
FEWEST, MOST_PICTURES = 20, 1_000
SHARE_OF_FEATURES = 0.8  # of the time, for the progress bar


class LayerCurve(NamedTuple):
    """The answer of a sweep.

    Attributes:
        figure: the score of each layer, with its interval.
        table: layer, score, lower and upper end of its interval.
        summary: the answer in a sentence.
        notes: what the visitor should know.
        result: of the sweep.
    """

    figure: Image.Image
    table: list[tuple[int, float, float, float]]
    summary: str
    notes: list[str]
    result: SweepResult


def layer_curve(
    parts: PresetParts,
    pictures: ClassPictures,
    probe: str = "ridge",
    progress: Progress = lambda share, what: None,
    batch_size: int = 16,
) -> LayerCurve:
    """Scores every layer on pictures of known classes.

    Args:
        parts: the model.
        pictures: with their classes. Of more than `MOST_PICTURES` some are taken,
            evenly spread; those that can't be read are left out and named.
        probe: "ridge" or "knn".
        progress: is told how far it is, from 0 to 1, and what is done.
        batch_size: pictures a forward pass.

    Raises:
        ValueError: if there are too few pictures.
    """
    if probe not in PROBES.values():
        raise ValueError(
            f"There is no probe {probe!r} here: {', '.join(PROBES.values())}."
        )
    chosen = spread(len(pictures.paths), MOST_PICTURES).tolist()
    progress(0.0, "reading pictures")
    notes = []
    if len(chosen) < len(pictures.paths):
        notes.append(
            f"{len(chosen):,} of {len(pictures.paths):,} pictures were taken, evenly "
            f"spread. `keras-pe probe` takes all."
        )
    images, labels = [], []
    for place in chosen:
        try:
            image = parts.image_converter.convert(
                pictures.paths[place], pictures.names[place]
            )
        except ImageError as error:
            notes.append(f"left out: {error}")
            continue
        images.append(image)
        labels.append(pictures.labels[place])
    if len(images) < FEWEST or len(set(labels)) < 2:
        raise ValueError(
            f"{len(images)} pictures of {len(set(labels))} classes could be read; "
            f"expected at least {FEWEST}, of two classes or more. " + " ".join(notes)
        )

    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        for start in range(0, len(images), batch_size):
            share = SHARE_OF_FEATURES * start / len(images)
            progress(share, f"picture {start + 1} of {len(images)}, all layers")
            rows = slice(start, start + batch_size)
            yield np.stack(images[rows]), np.array(labels[rows])
        progress(SHARE_OF_FEATURES, "a probe of each layer")

    result = sweep(
        parts.model.vision_encoder,
        batches,
        probe=probe,
        batch_size=batch_size,
        progress=False,
    )
    name = {value: key for key, value in PROBES.items()}[probe]
    return LayerCurve(
        drawn(plot_sweeps({name: result})),
        [
            (int(row.layer), round(row.score, 4), round(row.low, 4), round(row.high, 4))
            for row in result.layers
        ],
        result.summary(),
        notes,
        result,
    )
