"""A dual encoder as a `keras.Model` of pairs: what `fit` and `predict` do with them."""

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_pe.models.checked_model import Check, CheckedModel
from keras_pe.models.tower import Tower


class PairModel(CheckedModel):
    """Reads {"images": ..., "token_ids": ...}; has a scale beside its embeddings."""

    vision_encoder: Tower
    text_encoder: Tower

    def compute_loss(self, *arguments: Any, **options: Any) -> Any:
        if self._compile_loss is None and not self.losses:
            raise ValueError(
                "PECore has no loss of its own. Train it in "
                "keras_pe.training.ContrastiveTrainer(model), or give compile a loss."
            )
        return super().compute_loss(*arguments, **options)

    def load_weights(self, filepath: Any, **options: Any) -> None:
        """Loads what `save_weights` wrote, as `keras.Model.load_weights` does.

        Raises:
            ValueError: if the file is another model's, such as a trainer's.
        """
        if str(filepath).endswith(".weights.h5") and _holds_a_trainer(filepath):
            raise ValueError(
                f"{filepath} holds a trainer, not a PECore. Save the model alone with "
                f"trainer.model.save_weights(...) or save_to_preset(...); or load this "
                f"file into such a trainer and take its model."
            )
        super().load_weights(filepath, **options)

    def predict_step(self, *arguments: Any) -> Any:
        # Keras joins the batches' outputs along their first axis: the scale needs one.
        found = super().predict_step(*arguments)
        outputs, *state = found if isinstance(found, tuple) else (found,)
        rows = ops.shape(outputs["image_embeddings"])[:1]
        scale = ops.broadcast_to(outputs["logit_scale"], rows)
        outputs = {**outputs, "logit_scale": scale}
        return (outputs, *state) if isinstance(found, tuple) else outputs

    def predict(self, x: Any, *arguments: Any, **options: Any) -> dict[str, np.ndarray]:
        """Embeds images and texts in batches: what `call` returns, as NumPy arrays.

        Args: those of `keras.Model.predict`.

        Raises:
            ValueError: if an image or a token id can't be right, naming the first.
        """
        return _with_one_scale(super().predict(x, *arguments, **options))

    def predict_on_batch(self, x: Any) -> dict[str, np.ndarray]:
        return _with_one_scale(super().predict_on_batch(x))

    def input_check(self, training: bool) -> Check:
        return functools.partial(
            _check_parts,
            checks={
                "images": self.vision_encoder.input_check(training),
                "token_ids": self.text_encoder.input_check(training),
            },
        )


def check_pair(inputs: Any) -> None:
    """Refuses what is no pair of images and texts."""
    if not isinstance(inputs, Mapping):
        raise TypeError(
            f'PECore reads a dictionary {{"images": ..., "token_ids": ...}}, got '
            f"{type(inputs).__name__}. For images alone there is "
            f"model.encode_image(images), for texts model.encode_text(token_ids); with "
            f"gradients model.vision_encoder(images)."
        )
    for name, method in (("images", "encode_text"), ("token_ids", "encode_image")):
        if name not in inputs:
            raise ValueError(
                f"PECore reads images and token_ids, got {sorted(inputs)}. For the one "
                f"alone there is model.{method}."
            )


def _check_parts(inputs: Any, checks: dict[str, Check]) -> None:
    if isinstance(inputs, Mapping):
        for name, check in checks.items():
            part = inputs.get(name)
            if name in inputs and not hasattr(part, "dtype"):
                raise TypeError(
                    f"{name} is a {type(part).__name__}, expected an array. "
                    f"PEImageConverter and PETokenizer make arrays of files and texts."
                )
            if name in inputs:
                check(part)


def _with_one_scale(outputs: dict[str, Any]) -> dict[str, np.ndarray]:
    return {**outputs, "logit_scale": np.asarray(outputs["logit_scale"])[0]}


def _holds_a_trainer(path: Any) -> bool:
    import h5py  # Keras needs it

    with h5py.File(path, "r") as file:
        return any(name.startswith("pe_core") for name in file.get("layers", ()))
