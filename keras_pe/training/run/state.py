"""Every variable of a compiled trainer by a name that is the same in every process."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_pe.presets.report import CheckpointError

if TYPE_CHECKING:
    import keras

METRICS = "metrics/"


def collect(trainer: "keras.Model", with_teachers: bool = False) -> dict[str, Any]:
    """Returns all variables of a compiled trainer by name.

    `weights/...` are those of the model, frozen ones and the states of random seeds
    included, but for a stage's `teachers`, which are loaded anew; `optimizer/...` those
    of the optimizer (moments by the weight that they belong to, averages, accumulated
    gradients, counters); `metrics/...` those of the metrics that exist so far. A number
    that Keras appends to a name it makes up (`dense_7`) counts the layers made before
    in the process, so it is counted anew.

    One source of randomness is no variable: on PyTorch `keras.layers.Dropout` without a
    seed draws from PyTorch's own numbers, which `fit` draws from too when it starts.
    Give such layers a seed where a resumed run must be exact.

    The optimizer is built if it is not. On JAX inside `fit`, where the values live in
    the training loop, they are fetched first.

    Args:
        trainer: a compiled model, its weights built.
        with_teachers: whether those of its teachers are given too.

    Returns:
        Keras variables, to be saved before the next step.

    Raises:
        CheckpointError: if the model is not compiled or has no weights.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.compile(keras.optimizers.SGD(0.1), "mse")
        >>> [name for name in collect(model) if "metrics" not in name]
        ... # doctest: +NORMALIZE_WHITESPACE
        ['weights/sequential/dense/kernel', 'weights/sequential/dense/bias',
         'optimizer/iteration', 'optimizer/learning_rate']
    """
    if getattr(trainer, "optimizer", None) is None:
        raise CheckpointError(
            f"{trainer.name} is not compiled, so it has no optimizer to save or "
            f"restore. Call compile first."
        )
    if not trainer.variables:
        raise CheckpointError(
            f"{trainer.name} has no weights yet. Build it, or call it on a batch first."
        )
    if hasattr(trainer, "jax_state_sync"):
        trainer.jax_state_sync()
    if not trainer.optimizer.built:
        trainer.optimizer.build(trainer.trainable_variables)
    made_up = _made_up_names([*trainer._flatten_layers(), *trainer.metrics])
    weights, moments = list(trainer.variables), list(trainer.optimizer.variables)
    metrics = [v for metric in trainer.metrics for v in metric.variables]
    paths = _stable_paths(weights, made_up)
    of_weight = {
        variable.path.replace("/", "_"): path
        for variable, path in zip(reversed(weights), reversed(paths), strict=True)
    }
    names = [
        *(f"weights/{path}" for path in paths),
        *(f"optimizer/{_optimizer_name(v.name, of_weight)}" for v in moments),
        *(METRICS + path for path in _stable_paths(metrics, made_up)),
    ]
    variables = [*weights, *moments, *metrics]
    taught = {
        id(v) for model in getattr(trainer, "teachers", ()) for v in model.variables
    }
    pairs = zip(_distinct(names), variables, strict=True)
    return {name: v for name, v in pairs if with_teachers or id(v) not in taught}


def restore(trainer: "keras.Model", arrays: Mapping[str, np.ndarray]) -> None:
    """Assigns what `collect` gave and a checkpoint kept: all of it, or nothing.

    Names, shapes and dtypes are compared before the first variable is assigned. Only
    metrics may be missing on either side: Keras makes some of them at the first step,
    and `fit` resets all of them when it starts.

    Args:
        trainer: a compiled model, made in the same way as the one that was saved.
        arrays: from `RunCheckpoints.load`.

    Raises:
        CheckpointError: naming what is missing, left over or of another shape or dtype.

    Example:
        >>> import keras
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> model.compile(keras.optimizers.SGD(0.1), "mse")
        >>> kept = {name: keras.ops.convert_to_numpy(variable).copy()
        ...     for name, variable in collect(model).items()}
        >>> _ = model.layers[-1].bias.assign([1.0, 2.0])
        >>> restore(model, kept)
        >>> keras.ops.convert_to_numpy(model.layers[-1].bias).tolist()
        [0.0, 0.0]
    """
    variables = collect(trainer)
    missing = [n for n in variables if n not in arrays and not n.startswith(METRICS)]
    # Checkpoints of earlier versions hold the teacher's too.
    known = collect(trainer, with_teachers=True)
    extra = [n for n in arrays if n not in known and not n.startswith(METRICS)]
    other = [
        f"{name} is {_kind(arrays[name])} in the checkpoint and {_kind(variable)} here"
        for name, variable in variables.items()
        if name in arrays and _kind(arrays[name]) != _kind(variable)
    ]
    problems = [
        f"{label} {_listed(names)}"
        for label, names in (
            ("the checkpoint lacks", missing),
            ("it has, and the trainer has not,", extra),
            ("shapes or dtypes differ:", other),
        )
        if names
    ]
    if problems:
        raise CheckpointError(
            f"The checkpoint does not fit {trainer.name}: {'; '.join(problems)}. "
            f"Nothing was assigned. Build model and optimizer as in the run that saved "
            f"it, with the same Keras backend."
        )
    for name, variable in variables.items():
        if name in arrays:
            variable.assign(arrays[name])


def _kind(value: Any) -> str:
    """Returns dtype and shape of an array or Keras variable, as text."""
    dtype = getattr(value.dtype, "name", None) or str(value.dtype)
    return f"{dtype} {tuple(value.shape)}"


def _listed(names: list[str], limit: int = 6) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


# === Names ===
def _made_up_names(parts: Iterable[Any]) -> dict[str, str]:
    """Returns those names of layers and metrics that Keras made of their class.

    Returns:
        The name without its number, by the name.
    """
    bases = {}
    for part in parts:
        base = re.sub(r"_\d+$", "", part.name)
        if base.replace("_", "") == type(part).__name__.lower():
            bases[part.name] = base
    return bases


def _stable_paths(variables: Iterable[Any], made_up: Mapping[str, str]) -> list[str]:
    """Returns the paths of variables with made-up names numbered from the start."""
    counts: Counter[str] = Counter()
    renamed: dict[str, str] = {}
    paths = []
    for variable in variables:
        pieces = variable.path.split("/")
        for i, piece in enumerate(pieces):
            seed = re.fullmatch(r"(seed_generator|variable)(_\d+)?", piece)
            base = seed[1] if seed else made_up.get(piece)
            if base is None:
                continue
            if piece not in renamed:
                number = counts[base]
                renamed[piece] = f"{base}_{number}" if number else base
                counts[base] += 1
            pieces[i] = renamed[piece]
        paths.append("/".join(pieces))
    return paths


def _optimizer_name(name: str, weights: Mapping[str, str]) -> str:
    """Turns `model_dense_7_kernel_momentum` into `momentum/model/dense/kernel`."""
    cut = name.rfind("_")
    while cut > 0:  # the longest name of a weight that fits
        if name[:cut] in weights:
            return f"{name[cut + 1 :]}/{weights[name[:cut]]}"
        cut = name.rfind("_", 0, cut)
    return name


def _distinct(names: Iterable[str]) -> list[str]:
    """Appends #2, #3... to names that occur again; Keras' paths are not unique."""
    counts: Counter[str] = Counter()
    distinct = []
    for name in names:
        counts[name] += 1
        distinct.append(name if counts[name] == 1 else f"{name}#{counts[name]}")
    return distinct
