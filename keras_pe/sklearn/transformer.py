"""Images, texts or videos to features, as a step of a scikit-learn pipeline."""

import functools
import os
from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from keras_pe.models.embedder import Embedder
from keras_pe.preprocessing.given_media import Kind


@functools.lru_cache(maxsize=1)
def _shared(preset: str) -> Embedder:
    return Embedder.from_preset(preset)


def _embedder(preset: Any) -> Embedder:
    """Returns a preset's embedder; clones of a transformer share it."""
    named = isinstance(preset, str | os.PathLike)
    return _shared(str(preset)) if named else Embedder.from_preset(preset)  # refused


class PETransformer(TransformerMixin, BaseEstimator):
    """Turns images, texts or videos into vectors; learns nothing.

    Vectors share a large constant part: put a `StandardScaler` between this and a
    linear model. A pickle holds the name of the preset, not its weights.

    Args:
        preset: of a dual encoder, as of `PECore.from_preset`.
        kind: "image", "text" or "video"; None finds out.
        normalize: whether vectors get unit length.
        batch_size: images or texts in a forward pass.
        progress: whether a progress bar is shown.

    Example:
        >>> from sklearn.linear_model import RidgeClassifier
        >>> from sklearn.pipeline import make_pipeline
        >>> from sklearn.preprocessing import StandardScaler
        >>> features = PETransformer("pe_core_emoji_small_patch8_64")
        >>> model = make_pipeline(features, StandardScaler(), RidgeClassifier())
        >>> model = model.fit(["a cat", "a dog", "a car", "a bus"], [0, 0, 1, 1])
        >>> model.predict(["a kitten", "a truck"]).shape
        (2,)
    """

    def __init__(
        self,
        preset: str = "pe_core_base_patch16_224",
        *,
        kind: Kind | None = None,
        normalize: bool = True,
        batch_size: int = 32,
        progress: bool = False,
    ) -> None:
        self.preset = preset
        self.kind = kind
        self.normalize = normalize
        self.batch_size = batch_size
        self.progress = progress

    def fit(self, X: Any, y: Any = None) -> Self:
        """Loads the preset; what is given is not looked at.

        Raises:
            CheckpointError: as `PECore.from_preset`.
        """
        _embedder(self.preset)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Returns the vectors, float32 `(count, output_dim)`.

        Args:
            X: what `Embedder.encode` takes, several of them: a row each. An array of a
                single grey image needs all its axes, `(1, height, width, 1)`.

        Raises: as `Embedder.encode`; ValueError if it is a table of numbers.
        """
        shape = tuple(getattr(X, "shape", ()))
        if len(shape) == 2:  # else it would be one grey image, and one row
            raise ValueError(
                f"Got a table of shape {shape}, expected a list of images, texts or "
                f"videos. Of a table give the column that holds them; rows of pixels "
                f"become images by X.reshape(len(X), height, width, 1)."
            )
        return _embedder(self.preset).encode(
            X,
            kind=self.kind,
            normalize=self.normalize,
            batch_size=self.batch_size,
            progress=self.progress,
        )

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Returns the names of the numbers: "pe0", "pe1", ..."""
        count = _embedder(self.preset).model.output_dim
        return np.array([f"pe{number}" for number in range(count)], object)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.no_validation = True  # of numbers: these are images or texts
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        return tags
