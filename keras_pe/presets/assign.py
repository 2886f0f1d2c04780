"""Brings tensors of an open file into a model: all are looked at, then assigned.

The first pass reads every tensor and compares its values with what the weights can
hold; nothing is assigned before it is through. The second assigns. Should the file be
cut or changed between the two, the weights that were replaced by then get their values
back.
"""

import contextlib
import dataclasses
import math
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import keras
import ml_dtypes
import numpy as np

from keras_pe.arrays import (
    FreedMemory,
    NonFiniteError,
    adopted,
    aligned,
    aligned_empty,
    aligned_zeros,
    check_finite,
    torch_array,
)
from keras_pe.presets.manifest import model_variables
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.tensor_reader import SAFETENSORS_DTYPES, Reader

Model = TypeVar("Model", bound=keras.Model)


# === Building what is about to be filled: no random number is drawn ===
# Drawing takes longer than reading: for the bundled model on JAX seven of eight
# seconds, most of them spent on compiling an initialiser for each shape.


def build_unfilled(build: Callable[[], Model]) -> Model:
    """Builds a model whose weights are zeros, to be filled by `fill`.

    Args:
        build: makes a `PECore`, a vision or a text encoder.

    Returns:
        The model. What is no weight of the architecture, such as the seeds of
        stochastic depth or a subclass' own layers, has its ordinary starting value.

    Example:
        >>> import keras_pe
        >>> sizes = dict(hidden_dim=32, num_layers=1, num_heads=2, intermediate_dim=64)
        >>> encoder = build_unfilled(lambda: keras_pe.PEVisionEncoder(32, 8, **sizes))
        >>> float(keras.ops.max(encoder.patch_embedding.position_embedding))
        0.0
    """
    # Variables made inside the scope get their values when it ends.
    with keras.StatelessScope():
        model = build()
        for variable in model_variables(model).values():
            variable._initializer = _zeros
    for layer in model._flatten_layers():
        # Keras' PyTorch layers register their parameters when they are built, but not
        # inside a scope; asking for them registers them.
        getattr(layer, "torch_params", None)
    return model


def _zeros(shape: Any, dtype: Any = None) -> Any:
    if keras.backend.backend() == "jax":  # would compile, and fill, each shape
        return adopted(aligned_zeros(tuple(shape), np.dtype(str(dtype))))
    return keras.ops.zeros(shape, dtype)


# === Which tensor becomes which weight ===
Shape = tuple[int, ...]
Convert = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Rule:
    """One tensor of a file, and what becomes of it.

    Attributes:
        source: its name there.
        shape: its shape there.
        targets: our weights that it fills, and how each is made from it.
    """

    source: str
    shape: Shape
    targets: tuple[tuple[str, Convert], ...]


def same(array: np.ndarray) -> np.ndarray:
    """Takes the tensor as it is."""
    return array


def rule(source: str, shape: Shape, target: str, convert: Convert = same) -> Rule:
    """Returns a rule with one target."""
    return Rule(source, shape, ((target, convert),))


# === All are looked at, then assigned ===
BLOCK = 2**20  # bytes of a piece of a large weight; about four are in memory at once
Change = Callable[[Rule, np.ndarray], np.ndarray]


def fill(
    reader: Reader,
    rules: Sequence[Rule],
    variables: Mapping[str, Any],
    changed: Change | None = None,
    fresh: bool = False,
) -> None:
    """Assigns each tensor of a file to the weights that it fills.

    Args:
        reader: the open file, whose names and shapes have been compared.
        rules: which tensor fills which weights; together all of them, each once.
        variables: the model's weights by our names.
        changed: what is done to a tensor before it is assigned, such as resampling.
        fresh: whether the model is thrown away if this fails, so that its weights
            need not be kept.

    Raises:
        CheckpointError: if a value is no number or too large for its weight, or the
            file changed; the weights are as they were.
    """
    targets = Counter(target for rule in rules for target, _ in rule.targets)
    if targets != Counter(variables.keys()):
        wrong = sorted({n for n, times in targets.items() if times > 1})
        wrong += sorted(set(targets) ^ set(variables))
        raise CheckpointError(
            f"{reader.path.name} does not fill each weight of the model once: "
            f"{', '.join(wrong[:8])}. Nothing was loaded."
        )
    for rule in rules:
        _check_values(reader, rule, variables)
    reader.check_unchanged()
    freed = FreedMemory()
    with _undone_on_failure(not fresh) as undo:
        for rule in rules:
            for target, _ in rule.targets:
                undo.keep(variables[target])
            _assign(reader, rule, variables, changed, undo.works or fresh)
            size = reader.tensors[rule.source].item_size * _count(rule)
            freed.replaced(size)
        reader.check_unchanged()
    freed.hand_back()


def _count(rule: Rule) -> int:
    return int(np.prod(rule.shape, dtype=np.int64))


# === First pass ===
def _check_values(reader: Reader, rule: Rule, variables: Mapping[str, Any]) -> None:
    """Refuses values that are no numbers, or that the weight can't hold."""
    info = reader.tensors[rule.source]
    stored = np.dtype(SAFETENSORS_DTYPES[info.dtype])
    narrow = [
        str(variables[target].dtype)
        for target, _ in rule.targets
        if _largest(variables[target].dtype) < _largest(stored)
    ]
    for rows in row_blocks(info.shape, info.item_size):
        block = reader.read(rule.source, rows if info.shape else None)
        first = f" (rows from {rows.start} on)" if rows.start else ""
        try:
            check_finite(
                block,
                f"{rule.source}{first} of {reader.path.name}",
                "row",
                hint="Nothing was loaded. The training run that wrote it diverged, or "
                "the file is damaged: take an earlier checkpoint, or fetch it again.",
            )
        except NonFiniteError as error:
            raise CheckpointError(str(error)) from error
        for dtype in narrow:
            with np.errstate(over="ignore"):
                held = np.isfinite(block.astype(np.dtype(dtype)))
            if not held.all():
                largest = np.abs(block.astype("float64")).max()
                raise CheckpointError(
                    f"{rule.source} of {reader.path.name} holds up to {largest:g}, "
                    f"which {dtype}, the dtype of the model's weights, can't hold. "
                    f"Nothing was loaded. Build the model in a wider dtype."
                )


def _largest(dtype: Any) -> float:
    return float(ml_dtypes.finfo(np.dtype(dtype)).max)


# === Second pass ===
def _assign(
    reader: Reader,
    rule: Rule,
    variables: Mapping[str, Any],
    changed: Change | None,
    droppable: bool,
) -> None:
    """Assigns one tensor.

    Args:
        reader: the open file.
        rule: which weights it fills.
        variables: the weights.
        changed: what is done to it.
        droppable: whether the old value of a weight may go before the new one is read.
    """
    info = reader.tensors[rule.source]
    target, convert = rule.targets[0]
    if changed is None and convert is same and is_large(info.shape, info.item_size):
        _assign_large(reader, rule.source, variables[target], droppable)
        return
    tensor = reader.read(rule.source)
    for target, convert in rule.targets:
        variable = variables[target]
        array = convert(tensor)
        if changed is not None:
            array = changed(rule, array)
        array = array.astype(np.dtype(str(variable.dtype)), copy=False)
        if keras.backend.backend() == "tensorflow" and array.ndim:
            # In place: a new tensor for each weight leaves gaps that no other fits.
            assign_rows(variable, slice(0, len(array)), array)
        else:
            variable.assign(adopted(aligned(array)))


def _assign_large(reader: Reader, name: str, variable: Any, droppable: bool) -> None:
    """Assigns a tensor block by block, so that it is not in memory twice."""
    info = reader.tensors[name]
    blocks = row_blocks(info.shape, info.item_size)
    if keras.backend.backend() != "jax":
        for rows in blocks:
            assign_rows(variable, rows, reader.read(name, rows))
        return
    # An array of JAX can't be changed: it is made whole, and taken over as it is.
    dtype = np.dtype(str(variable.dtype))
    if droppable:
        variable.assign(adopted(aligned_zeros(info.shape, dtype)))
        adopted(np.zeros(1))  # JAX lets go of what it took over at its next call only
    array = aligned_empty(info.shape, dtype)
    for rows in blocks:
        array[rows] = reader.read(name, rows)
    variable.assign(adopted(array))


# === Large weights ===
def is_large(shape: tuple[int, ...], item_size: int) -> bool:
    """Whether a weight is assigned by pieces.

    A token embedding has 200 MB: in the smallest models a third of all weights, which
    must not be in memory twice.
    """
    return bool(shape) and math.prod(shape) * item_size > 2 * BLOCK


def row_blocks(shape: tuple[int, ...], item_size: int) -> list[slice]:
    """Returns the blocks of rows by which a weight is read; one if it is small.

    Args:
        shape: shape of the weight.
        item_size: bytes of an element in the file.
    """
    if not is_large(shape, item_size):
        return [slice(0, shape[0] if shape else 0)]
    size = math.prod(shape) * item_size
    rows = max(BLOCK * shape[0] // size, 1)
    return [slice(i, min(i + rows, shape[0])) for i in range(0, shape[0], rows)]


def assign_rows(variable: Any, rows: slice, array: np.ndarray) -> None:
    """Assigns rows of a Keras variable of PyTorch or TensorFlow, in place."""
    part = keras.ops.convert_to_tensor(adopted(array), dtype=variable.dtype)
    if keras.backend.backend() == "torch":
        variable.value.detach()[rows].copy_(part)
        return
    import tensorflow as tf

    # `variable.value[rows].assign(part)` would read the variable first, and a variable
    # that someone has read is copied as a whole before it is changed.
    value = variable.value
    for copy in getattr(value, "values", (value,)):  # one a device, under a strategy
        tf.raw_ops.ResourceStridedSliceAssign(
            ref=copy.handle,
            begin=[rows.start],
            end=[rows.stop],
            strides=[1],
            value=part,
        )
        # From then on each use of the weight would copy it, but for this.
        tf.raw_ops.DisableCopyOnRead(resource=copy.handle)


# === Undoing ===
class _Undo:
    """Keeps the values of weights that are about to be replaced, on disk.

    In memory they would take as much as the weights. Where the disk has no room, or
    the weights lie on other machines too, nothing is kept.
    """

    def __init__(self, works: bool) -> None:
        self.works = works
        self._file: Any = tempfile.TemporaryFile() if works else None  # noqa: SIM115
        self._kept: list[Any] = []

    def keep(self, variable: Any) -> None:
        """Writes the value of a weight."""
        if not self.works:
            return
        try:
            for rows in _blocks(variable):
                block = np.ascontiguousarray(_value(variable, rows))
                self._file.write(block.reshape(-1).view(np.uint8).data)
        except (OSError, RuntimeError):
            self.works = False
            return
        self._kept.append(variable)

    def restore(self) -> None:
        """Gives all weights that were kept their values back."""
        if self._file is None:
            return
        self._file.seek(0)
        for variable in self._kept:
            shape, dtype = tuple(variable.shape), np.dtype(str(variable.dtype))
            array = aligned_empty(shape, dtype)
            self._file.readinto(array.reshape(-1).view(np.uint8).data)
            variable.assign(adopted(array))

    def close(self) -> None:
        """Forgets all values."""
        if self._file is not None:
            self._file.close()


@contextlib.contextmanager
def _undone_on_failure(wanted: bool) -> Iterator[_Undo]:
    try:
        undo = _Undo(wanted)
    except OSError:  # no place for temporary files
        undo = _Undo(False)
    try:
        yield undo
    except BaseException as error:  # Ctrl-C leaves half a model just as well
        undo.restore()
        if wanted and not undo.works:
            error.add_note(
                "There was no room to keep the old weights, and some of them were "
                "replaced: load the model again before you use it."
            )
        raise
    finally:
        undo.close()


def _blocks(variable: Any) -> list[slice]:
    shape = tuple(variable.shape)
    if keras.backend.backend() == "jax":  # a slice would be compiled and copied
        return [slice(0, shape[0] if shape else 0)]
    return row_blocks(shape, np.dtype(str(variable.dtype)).itemsize)


def _value(variable: Any, rows: slice) -> np.ndarray:
    shape, value = tuple(variable.shape), variable.value
    if shape and rows != slice(0, shape[0]):
        value = value[rows]
    # Keras copies on JAX, and goes by way of float32 on PyTorch.
    if keras.backend.backend() == "jax":
        array = np.asarray(value)
    elif keras.backend.backend() == "torch":
        array = torch_array(value)
    else:
        array = keras.ops.convert_to_numpy(value)
    return array.astype(np.dtype(str(variable.dtype)), copy=False)
