"""Training on many devices with JAX: copies of the weights, or weights cut in pieces.

Keras runs one program over all devices. The batch is split over them; the weights are

* copied to each device: `data_parallel()`, as long as weights, gradients and moments
  fit (16 bytes a parameter with float32 and LAMB: 39 GB for PE-Core-G14-448), or
* cut into one piece a device: `sharded_parameters(variables)`. A weight is put
  together just before it is used and dropped afterwards, its gradient is summed
  straight into pieces, and the moments of the optimizer lie as their weight lies.
  (Also known as fully sharded data parallelism, or ZeRO stage 3.) On many devices
  pieces get too small, and sizes cease to divide: `pieces=64` makes so many of each
  weight, for every 64 devices anew.

Losses and gradients are those of one device: nothing else in a script changes.

    with without_allocation():
        variables = build_model().variables
    distribution = sharded_parameters(variables)    # or data_parallel()
    keras.distribution.set_distribution(distribution)
    model = build_model()                           # each weight is born in pieces
    trainer = ContrastiveTrainer(model); trainer.compile(...); trainer.fit(...)
    check_sharded([*trainer.variables, *trainer.optimizer.variables], distribution)

**Many hosts** (a TPU pod, several GPU machines). Start the same script on each, and let
its first lines be

    keras.distribution.initialize()    # on a Cloud TPU pod this finds out everything
    keras.distribution.initialize(     # elsewhere
        "10.0.0.1:1234", num_processes=4, process_id=...)    # address of process 0

before anything touches a device. From then on `sharded_parameters` and
`data_parallel` span the devices of all hosts. Every process needs the same seed
(`keras.utils.set_random_seed`), the same number of devices and of steps, and feeds its
own rows of each batch, `batch_size / jax.process_count()` of them:
`host_position` of `distribution` beside this says which. A weight that is cut over
several hosts can't be read on one, and a host can't compute with one alone: both go
inside `whole_values`, which all hosts enter.

Source: Rajbhandari et al. 2020, "ZeRO"; Xu et al. 2021, "GSPMD".
"""

import contextlib
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras

Axes = tuple[str | None, ...]
# The mesh: pieces of the weights lie along "shard", copies of them along "replica",
# the rows of the batch along both.
REPLICA, SHARD = "replica", "shard"
# Elements. Below it a copy costs less than fetching the pieces: biases, norms, probe.
# What the blocks of towers, and those of KerasHub's language models, are called.
NUMBERED = r"((?:decoder_)?block|transformer_layer)_\d+"
MINIMUM_SIZE = 2**15


@dataclasses.dataclass(frozen=True)
class ParameterGroup:
    """Variables of one role and shape, such as the same kernel of all blocks.

    Attributes:
        pattern: regular expression that matches the whole path of each, and no other.
        shape: shape of each.
        dtype: dtype of each.
        count: how many there are.
        axes: for each side `"shard"` if it is cut over the devices, else None.
        note: why the group is not cut along its longest side; "" if it is.
    """

    pattern: str
    shape: tuple[int, ...]
    dtype: str
    count: int
    axes: Axes
    note: str = ""

    @property
    def size(self) -> int:
        """Elements of the whole group."""
        return self.count * math.prod(self.shape)

    @property
    def is_sharded(self) -> bool:
        """Whether each device holds a piece only."""
        return SHARD in self.axes


def shard_axes(
    shape: Sequence[int], pieces: int, minimum_size: int = MINIMUM_SIZE
) -> tuple[Axes, str]:
    """Chooses the side along which a tensor is cut: the longest that divides.

    Args:
        shape: shape of the tensor.
        pieces: how many to make.
        minimum_size: tensors of fewer elements, and vectors, are copied.

    Returns:
        `(axes, note)`: "shard" for the side to cut and None for the others; and, if
        that is not the longest side, why.

    Example:
        >>> shard_axes((1536, 8960), 8)
        ((None, 'shard'), '')
        >>> shard_axes((1536, 8960), 512)
        (('shard', None), '8960 does not divide by 512')
    """
    copied: Axes = (None,) * len(shape)
    if len(shape) < 2 or math.prod(shape) < minimum_size:
        return copied, "small"
    # The last of equally long sides: a kernel's output channels.
    sides = sorted(range(len(shape)), key=lambda side: (-shape[side], -side))
    passed: list[str] = []
    for side in sides:
        if shape[side] % pieces == 0:
            axes = tuple(SHARD if i == side else None for i in range(len(shape)))
            note = f"{' and '.join(passed)} does not divide by {pieces}"
            return axes, note if passed else ""
        passed.append(str(shape[side]))
    return copied, f"no side of {tuple(shape)} divides by {pieces}"


def parameter_groups(
    variables: Iterable[Any], pieces: int, minimum_size: int = MINIMUM_SIZE
) -> tuple[ParameterGroup, ...]:
    """Sorts variables by role and decides how each group lies on the devices.

    Args:
        variables: Keras variables; those of `without_allocation` will do.
        pieces: how many each weight is cut into; 1 cuts nothing.
        minimum_size: tensors of fewer elements are copied to each device.

    Returns:
        The groups, in the order of the variables. On every backend.

    Example:
        >>> groups = parameter_groups(model.variables, 8)        # doctest: +SKIP
        >>> groups[1].pattern, groups[1].axes                    # doctest: +SKIP
        ('pe_vision_encoder/block_\\\\d+/attention/qkv/kernel', (None, 'shard'))
    """
    counts: dict[tuple[str, tuple[int, ...], str], int] = {}
    for variable in variables:
        # Without any ".*" a path can't match two patterns, which Keras refuses.
        pattern = re.sub(NUMBERED, r"\1_\\d+", re.escape(variable.path))
        key = (pattern, tuple(variable.shape), str(variable.dtype))
        counts[key] = counts.get(key, 0) + 1
    patterns = [pattern for pattern, _, _ in counts]
    twice = sorted({p for p in patterns if patterns.count(p) > 1})
    if twice:
        raise ValueError(
            f"Variables of one path pattern must have one shape and dtype, but those "
            f"of {twice[0]!r} differ. Give the two towers different names."
        )
    groups = []
    for (pattern, shape, dtype), count in counts.items():
        axes, note = shard_axes(shape, pieces, minimum_size)
        if pieces == 1:
            axes, note = (None,) * len(shape), ""
        groups.append(ParameterGroup(pattern, shape, dtype, count, axes, note))
    return tuple(groups)


# === The two distributions ===
def data_parallel(devices: Sequence[Any] | None = None) -> Any:
    """Returns a distribution that splits the batch and copies the weights.

    Args:
        devices: as `keras.distribution.list_devices()` names them; None for all.

    Returns:
        A `keras.distribution.DataParallel`.

    Raises:
        RuntimeError: on another backend than JAX.

    Example:
        >>> keras.distribution.set_distribution(data_parallel())    # doctest: +SKIP
    """
    require_jax("data_parallel()")
    devices = list(devices) if devices else keras.distribution.list_devices()
    # Every process reads its own rows already; Keras would want a tf.data.Dataset.
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)


def sharded_parameters(
    variables: Iterable[Any],
    devices: Sequence[Any] | None = None,
    pieces: int | None = None,
    minimum_size: int = MINIMUM_SIZE,
) -> Any:
    """Returns a distribution that splits the batch and cuts the weights in pieces.

    Inside a trainer (a model with "trainer" in its name) the outputs of the towers'
    layers are pinned to lie by rows. Weights and rows share an axis of the mesh; left
    alone, XLA's partitioner gathers in many places the rows instead of the weights,
    which for a large batch are far more. Pinned rows must divide over the devices:
    chunks of the batch and its masked part too.

    Args:
        variables: of the model that will be built under the distribution, or of its
            like from `without_allocation`.
        devices: as `keras.distribution.list_devices()` names them; None for all.
        pieces: how many each weight is cut into; divides the number of devices. None
            makes one a device.
        minimum_size: tensors of fewer elements are copied to each device.

    Returns:
        A `keras.distribution.ModelParallel`. Set it before building the model.

    Raises:
        RuntimeError: on another backend than JAX.
        ValueError: if `pieces` does not divide the number of devices.

    Example:
        >>> distribution = sharded_parameters(model.variables)      # doctest: +SKIP
        >>> keras.distribution.set_distribution(distribution)       # doctest: +SKIP
    """
    require_jax("sharded_parameters()")
    devices = list(devices) if devices else keras.distribution.list_devices()
    pieces = pieces or len(devices)
    if len(devices) % pieces:
        raise ValueError(
            f"pieces must divide the number of devices, got {pieces} pieces for "
            f"{len(devices)} devices."
        )
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // pieces, pieces), [REPLICA, SHARD], devices
    )
    layout_map = keras.distribution.LayoutMap(mesh)
    for group in parameter_groups(variables, pieces, minimum_size):
        layout_map[group.pattern] = group.axes
    # Keras asks for the layout of a layer's output by the layer's path + "/output".
    layout_map[_PINNED_OUTPUTS] = _RowLayout(((REPLICA, SHARD),), mesh)
    return _ShardedParameters(
        layout_map=layout_map, batch_dim_name=REPLICA, auto_shard_dataset=False
    )


class _RowLayout(keras.distribution.TensorLayout):
    """Cuts rows along both axes of the mesh, which Keras' check does not foresee."""

    def _validate_axes(self) -> None:
        """Lets a tuple of axes pass."""


class _ShardedParameters(keras.distribution.ModelParallel):
    """`ModelParallel` that splits the batch over all devices, not over replicas."""

    def get_data_layout(self, data_shape: Sequence[int]) -> Any:
        return _RowLayout(
            ((REPLICA, SHARD), *(None for _ in data_shape[1:])), self.device_mesh
        )


_PINNED_LAYERS = (
    r"block_\d+|transformer_layer_\d+|decoder_block_\d+|patch_embedding|"
    r"token_embedding|pre_norm|norm|attention_pooling|projection|vision_projector"
)
# The pooling's query is one for the whole batch.
_PINNED_OUTPUTS = (
    r"[^/]*trainer[^/]*/(?!.*attention_pooling/query/)"
    rf"(?:.*/)?(?:{_PINNED_LAYERS})(?:/.*)?/output"
)


def check_sharded(
    variables: Iterable[Any], distribution: Any, minimum_size: int = MINIMUM_SIZE
) -> None:
    """Raises if a large tensor is copied to every device that could be cut.

    Keras says nothing when a layout matches no variable, or when a model was built
    before its distribution was set: each device just holds everything.

    Args:
        variables: those of a trainer and of its optimizer, with values.
        distribution: from `sharded_parameters`.
        minimum_size: the one that the distribution was made with.

    Raises:
        ValueError: naming the tensors.

    Example:
        >>> check_sharded(trainer.optimizer.variables, distribution)  # doctest: +SKIP
    """
    pieces = distribution.device_mesh.shape[-1]
    copied = []
    for variable in variables:
        shape = tuple(variable.shape)
        axes, _ = shard_axes(shape, pieces, minimum_size)
        if pieces > 1 and SHARD in axes:
            piece = variable.value.sharding.shard_shape(shape)
            if math.prod(piece) * pieces != math.prod(shape):
                copied.append(variable.path)
    if copied:
        raise ValueError(
            f"{len(copied)} large tensors are not cut into {pieces} pieces, among them "
            f"{', '.join(copied[:3])}. Call keras.distribution."
            f"set_distribution(sharded_parameters(variables)) before the model and its "
            f"optimizer are built, with the variables of a model of the same layer "
            f"names."
        )


# === Many hosts ===
@contextlib.contextmanager
def whole_values(variables: Iterable[Any]) -> Iterator[None]:
    """Makes each variable whole on this host, where JAX runs on several.

    Inside, one host can save the variables or compute with them while the others do
    something else. All must enter, with the same variables in the same order: values
    that are cut over hosts are fetched, one after another, into the memory of each
    host. Values that are copied to all of them cost nothing. With one host, and on the
    other backends, it does nothing.

    Args:
        variables: Keras variables, of which nothing inside may change the values.

    Example:
        >>> with whole_values(model.variables):                      # doctest: +SKIP
        ...     if jax.process_index() == 0:
        ...         model.save_weights("model.weights.h5")
    """
    if keras.backend.backend() != "jax":
        yield
        return
    from jax.experimental.multihost_utils import process_allgather

    before = []
    try:
        for variable in variables:
            value = variable._value
            if getattr(value, "is_fully_addressable", True):
                continue
            before.append((variable, value))
            if value.is_fully_replicated:
                variable._value = value.addressable_data(0)
            else:
                variable._value = process_allgather(value, tiled=True)
        yield
    finally:
        for variable, value in before:
            variable._value = value


def require_jax(what: str) -> None:
    """Raises unless the backend is JAX, and says what the others have instead."""
    backend = keras.backend.backend()
    if backend != "jax":
        raise RuntimeError(
            f"{what} needs Keras on JAX, got the {backend} backend. Set "
            f"KERAS_BACKEND=jax, or train on many devices as {backend} does: PyTorch "
            f"with torchrun (keras_pe.training.devices.torch_loop), TensorFlow in a "
            f"tf.distribute.MirroredStrategy."
        )
