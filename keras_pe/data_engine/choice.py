"""Which clips are worth a caption: the best of each group of clips that look alike."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_pe.arrays import check_finite, check_sizes
from keras_pe.data_engine.apply import failed
from keras_pe.data_engine.frames import DecodingStage, frames_of
from keras_pe.data_engine.stage import FAILURE, KEY, Row, check_number
from keras_pe.models.core import PECore
from keras_pe.preprocessing.video import PEVideoConverter
from keras_pe.training.teachers.digest import weights_digest

_DIGITS = 5  # of an embedding's values: processes agree on as many


class Embed(DecodingStage):
    """Embeds a clip: the mean of its frames' embeddings, of unit length.

    Args:
        preset: of a `PECore`, whatever `from_preset` takes.
        num_frames: frames of a clip.

    Example:
        >>> stage = Embed("pe_core_emoji_small_patch8_64", num_frames=4)
        >>> stage.gives, stage.converter.image_size
        (('embedding',), (64, 64))
    """

    name = "embed"
    gives = ("embedding",)

    def __init__(self, preset: str, num_frames: int = 8) -> None:
        super().__init__(PEVideoConverter.from_preset(preset, num_frames=num_frames))
        self.preset = preset
        self._weights: str | None = None

    def settings(self) -> Mapping[str, Any]:
        """Returns what the embedding depends on: of the model, its weights."""
        if self._weights is None:
            self._weights = weights_digest(self.load())
        return {**super().settings(), "weights": self._weights}

    def load(self) -> Any:
        """Returns the model."""
        return PECore.from_preset(self.preset)

    def run(self, loaded: Any, row: Row) -> Mapping[str, Any]:
        """Returns the embedding, a list of numbers."""
        found = np.asarray(loaded.encode_video(frames_of(row, self.converter)[None]))
        check_finite(found, "embeddings", "clip")
        return {"embedding": [round(float(value), _DIGITS) for value in found[0]]}


class Choose:
    """Keeps the best clips of each cluster of embeddings; the others fail.

    Args:
        clusters: how many, at most as many as there are clips.
        best: clips that stay of each.
        by: name of the number that says which are best: the largest.
        seed: of k-means.

    Raises:
        ValueError: if a number is not positive.

    Source: Perception Encoder, appendix A.2, where a random forest on answers of a
    language model says which are best.

    Example:
        >>> rows = [{"key": str(n), "motion": n, "embedding": [n // 2, 1]}
        ...         for n in range(4)]
        >>> [row["key"] for row in Choose(2, 1, "motion")(rows) if "failure" not in row]
        ['1', '3']
    """

    def __init__(self, clusters: int, best: int, by: str, seed: int = 0) -> None:
        check_sizes(clusters=clusters, best=best)
        self.clusters, self.best, self.by, self.seed = clusters, best, by, seed

    def __call__(self, rows: Sequence[Row]) -> list[Row]:
        """Returns all rows in their order, with the cluster of each.

        Raises:
            ValueError: if a row has no embedding or number: stages before give them.
            ImportError: if scikit-learn is missing.
        """
        try:
            from sklearn.cluster import KMeans
        except ImportError as error:
            raise ImportError(
                "Choosing clips needs scikit-learn: pip install scikit-learn."
            ) from error
        waiting = [row for row in rows if FAILURE not in row]
        for row in waiting:
            missing = [name for name in ("embedding", self.by) if name not in row]
            if missing:
                raise ValueError(
                    f"{row[KEY]} has no {', '.join(missing)} to choose by: a stage "
                    f"before gives it, such as Embed or Probe."
                )
            check_number(f"{row[KEY]}: {self.by}", row[self.by], float("-inf"))
        if not waiting:
            return list(rows)
        vectors = np.array([row["embedding"] for row in waiting], "float64")
        check_finite(vectors, "embeddings", "clip")
        different = len(np.unique(vectors, axis=0))
        means = KMeans(
            min(self.clusters, different), n_init=4, random_state=self.seed
        ).fit(vectors)
        of_row = dict(zip((row[KEY] for row in waiting), means.labels_, strict=True))
        order = sorted(waiting, key=lambda row: (-row[self.by], row[KEY]))
        places: dict[str, int] = {}
        taken: dict[int, int] = {}
        for row in order:
            cluster = int(of_row[row[KEY]])
            places[row[KEY]] = taken.get(cluster, 0)
            taken[cluster] = places[row[KEY]] + 1
        found = []
        for row in rows:
            if FAILURE not in row:
                cluster = int(of_row[row[KEY]])
                row = {**row, "cluster": cluster}
                if places[row[KEY]] >= self.best:
                    row = failed(
                        row,
                        "choose",
                        "others of its kind are better",
                        f"Place {places[row[KEY]] + 1} of {taken[cluster]} by "
                        f"{self.by}, {self.best} stay.",
                    )
            found.append(row)
        return found
