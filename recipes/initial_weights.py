"""Where a run's weights come from: a file, a published checkpoint, or a preset."""

from pathlib import Path

from keras import ops

from keras_pe import PECore
from keras_pe.checkpoints import load_weights


def load_initial_weights(model: PECore, source: str) -> None:
    """Loads a model's first weights.

    Args:
        model: a built model; its architecture must be that of the weights.
        source: a `.weights.h5` file of Keras, a checkpoint of upstream, timm or
            open_clip, or a preset: name, directory, `hf://` or `kaggle://` handle.

    Raises:
        ValueError: if a preset has another architecture; the first tensor that differs
            is named, and nothing is changed.

    Example:
        >>> load_initial_weights(model, "pe_core_base_patch16_224")   # doctest: +SKIP
    """
    if source.endswith(".weights.h5"):
        model.load_weights(source)
    elif Path(source).is_file():
        load_weights(model, source, resample_positions=True)
    else:
        copy_weights(PECore.from_preset(source), model, source)


def copy_weights(given: PECore, model: PECore, name: str) -> None:
    """Copies all weights of one model into another of the same architecture."""
    pairs = list(zip(given.variables, model.variables, strict=False))
    for theirs, ours in pairs:
        if tuple(theirs.shape) != tuple(ours.shape):
            raise ValueError(
                f"{name} does not fit the configuration: {ours.path} has shape "
                f"{tuple(ours.shape)}, the preset's has {tuple(theirs.shape)}. Choose "
                f"the configuration of the preset's architecture."
            )
    if len(given.variables) != len(model.variables):
        raise ValueError(
            f"{name} does not fit the configuration: {len(given.variables)} tensors "
            f"instead of {len(model.variables)}. Choose the configuration of the "
            f"preset's architecture."
        )
    for theirs, ours in pairs:
        ours.assign(ops.cast(theirs.value, ours.dtype))
