"""What fine-tuning leaves in layers, frozen, quantised or adapted by LoRA, is kept.

Keras keeps it in the configuration of each layer. Our layers make their sublayers
themselves, so their own configuration has to say it for all of them. It says exceptions
only: the configuration of a layer as it was made says nothing. `Dense` keeps its
low-rank updates whole in files.
"""

import contextlib
import gc
from collections.abc import Iterator, Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from keras_pe.layers.initializers import GlorotUniform, HeUniform

# === The state ===
STATE_KEYS = ("trainable_flags", "adaptations")


def walk(layer: keras.Layer, path: str = "") -> Iterator[tuple[str, keras.Layer]]:
    """Yields every layer with its path from the first, such as "block_1/attention"."""
    yield path, layer
    for child in layer._layers:
        yield from walk(child, f"{path}/{child.name}" if path else child.name)


def variable_key(layer_path: str, variable: Any) -> str:
    """Returns the path of a layer's own variable."""
    return f"{layer_path}/{variable.name}" if layer_path else str(variable.name)


# === What is trained ===
def trainable_flags(layer: keras.Layer) -> dict[str, bool]:
    """Returns the flags that differ from that of the layer around them, by path.

    Args:
        layer: a built layer.

    Returns:
        Flags of layers and variables; "" is the layer itself. Empty if all is trained.

    Example:
        >>> from keras_pe.layers.transformer import FeedForward
        >>> layer = FeedForward(4, 8)
        >>> layer.build((None, None, 4))
        >>> layer.expand.bias.trainable = False
        >>> trainable_flags(layer)
        {'expand/bias': False}
    """
    flags: dict[str, bool] = {}
    found: dict[str, bool] = {}
    for path, part in walk(layer):
        flag = found[path] = bool(part.trainable)
        if flag != (found[path.rpartition("/")[0]] if path else True):
            flags[path] = flag
        for variable in part._trainable_variables:
            if bool(variable.trainable) != flag:
                flags[variable_key(path, variable)] = bool(variable.trainable)
    return flags


def restore_trainable_flags(layer: keras.Layer, flags: Mapping[str, Any]) -> None:
    """Sets what `trainable_flags` returned; what is not in it follows its layer.

    Raises:
        ValueError: if the layer has no such part.
    """
    left = dict(flags)
    wanted: dict[str, bool] = {}
    for path, part in walk(layer):  # a layer before what is in it: flags are handed on
        inherited = wanted[path.rpartition("/")[0]] if path else True
        wanted[path] = bool(left.pop(path, inherited))
        if bool(part.trainable) != wanted[path]:
            part.trainable = wanted[path]
    for path, part in walk(layer):
        for variable in part._trainable_variables:
            flag = left.pop(variable_key(path, variable), wanted[path])
            variable.trainable = bool(flag)
    _check_used(layer, left)


def flags_config(layer: keras.Layer) -> dict[str, Any]:
    """Returns the flags as an entry of a configuration; {} if all is trained."""
    flags = trainable_flags(layer)
    return {"trainable_flags": flags} if flags else {}


# === What is quantised or adapted ===
def adaptations(layer: keras.Layer) -> dict[str, dict[str, Any]]:
    """Returns how sublayers are quantised and adapted by LoRA, by path.

    Args:
        layer: a built layer.

    Returns:
        For each such sublayer `quantization` (mode), `quantization_config`,
        `lora_rank` and `lora_alpha`, as far as they apply.
    """
    found: dict[str, dict[str, Any]] = {}
    for path, part in walk(layer):
        entry: dict[str, Any] = {}
        if getattr(part, "_is_quantized", False):
            entry["quantization"] = part.quantization_mode
            config = getattr(part, "quantization_config", None)
            if config is not None:
                entry["quantization_config"] = keras.saving.serialize_keras_object(
                    config
                )
        if getattr(part, "lora_enabled", False):
            entry["lora_rank"], entry["lora_alpha"] = part.lora_rank, part.lora_alpha
        if entry:
            found[path] = entry
    return found


def restore_adaptations(layer: keras.Layer, found: Mapping[str, Any]) -> None:
    """Quantises and adapts sublayers as `adaptations` said; weights are loaded later.

    Raises:
        ValueError: if the layer has no such sublayer.
    """
    if not found:
        return
    left = dict(found)
    with little_to_collect():
        for path, part in walk(layer):
            if path in left:
                _adapt(part, left.pop(path))
    _check_used(layer, left)


def _adapt(part: Any, entry: Mapping[str, Any]) -> None:
    if "quantization" in entry:
        config = entry.get("quantization_config")
        if config is not None:
            config = keras.saving.deserialize_keras_object(config)
        part.quantize(entry["quantization"], config=config)
    if "lora_rank" in entry:
        part.enable_lora(entry["lora_rank"], lora_alpha=entry["lora_alpha"])
    if hasattr(part, "_track_variables"):  # PyTorch's own list of variables
        part._track_variables()


@contextlib.contextmanager
def little_to_collect() -> Iterator[None]:
    """Keeps the garbage collector to what is made inside.

    Keras collects all of it for each layer that it quantises, a hundred times for a
    large encoder, to free weights that their last reference has freed already.
    """
    if gc.get_freeze_count():  # somebody else's, whom `unfreeze` would undo
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def _check_used(layer: keras.Layer, left: Mapping[str, Any]) -> None:
    if left:
        raise ValueError(
            f"The configuration speaks of parts that {layer.name} does not have: "
            f"{', '.join(map(repr, sorted(left)[:5]))}. It may come from another "
            f"version of keras_pe."
        )


# === In configurations ===
def state_config(layer: keras.Layer) -> dict[str, Any]:
    """Returns what a configuration says of a built layer; {} where it is as made."""
    if not layer.built:
        return dict(getattr(layer, "_state_to_restore", {}))
    state = {
        "trainable_flags": trainable_flags(layer),
        "adaptations": adaptations(layer),
    }
    return {key: value for key, value in state.items() if value}


def restore_state(layer: keras.Layer, state: Mapping[str, Any]) -> None:
    """Gives a built layer what `state_config` said."""
    restore_adaptations(layer, state.get("adaptations", {}))
    if "trainable_flags" in state or "adaptations" in state:
        restore_trainable_flags(layer, state.get("trainable_flags", {}))


class LayerOfLayers(keras.layers.Layer):
    """A layer whose configuration says what is frozen or adapted in its sublayers.

    A subclass calls `restore_when_built` at the end of its `build`.
    """

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **state_config(self)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        config = dict(config)
        state = {key: config.pop(key) for key in STATE_KEYS if key in config}
        layer = super().from_config(config)
        layer._state_to_restore = state
        return layer

    def restore_when_built(self) -> None:
        state = self.__dict__.pop("_state_to_restore", {})
        if state:
            restore_state(self, state)


# === In files ===
LORA_NAMES = ("lora_kernel_a", "lora_kernel_b")
LORA_FACTOR = "lora_factor"
FLOAT8_AND_LORA = (
    "{name}: Keras computes no float8 product with LoRA. Use one of the two: "
    "merge_lora() before float8, or LoRA with int8 or int4."
)


@keras.saving.register_keras_serializable("keras_pe")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense` with LoRA that is kept whole.

    Keras' own writes the merged matrix alone, and sets both factors of the update to
    zero where a layer with LoRA reads a file: their gradients are then zero for good.
    Here files hold the base and the factors. A layer without LoRA, or with another
    rank, that reads them adds the update to its matrix. Nor does `trainable = True`
    thaw a base that LoRA has frozen.

    Args: those of `keras.layers.Dense`.

    Example:
        >>> import numpy as np
        >>> layer = Dense(4)
        >>> tuple(layer(np.zeros((2, 3), "float32")).shape)
        (2, 4)
        >>> layer.enable_lora(2)
        >>> layer.trainable = True
        >>> sorted(variable.name for variable in layer.trainable_variables)
        ['bias', 'lora_kernel_a', 'lora_kernel_b']
    """

    lora_enabled: bool

    def __init__(
        self,
        units: int,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = None,  # None: GlorotUniform, Keras' default
        **kwargs: Any,
    ) -> None:
        initializer = kernel_initializer or GlorotUniform()
        super().__init__(units, activation, use_bias, initializer, **kwargs)

    @property
    def trainable(self) -> bool:
        return bool(self._trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.layers.Dense.trainable.fset(self, value)
        if getattr(self, "lora_enabled", False):
            self._kernel.trainable = False

    def quantize(
        self, mode: Any = None, type_check: bool = True, config: Any = None
    ) -> None:
        if mode == "float8" and getattr(self, "lora_enabled", False):
            raise ValueError(FLOAT8_AND_LORA.format(name=self.path))
        # Keras refuses subclasses, which could compute something else. This does not.
        super().quantize(mode, type_check=False, config=config)

    def enable_lora(
        self,
        rank: int,
        lora_alpha: float | None = None,
        a_initializer: Any = None,  # None: HeUniform, Keras' default
        b_initializer: Any = "zeros",
    ) -> None:
        if self.quantization_mode == "float8":
            raise ValueError(FLOAT8_AND_LORA.format(name=self.path))
        a_initializer = a_initializer or HeUniform()
        super().enable_lora(rank, lora_alpha, a_initializer, b_initializer)

    def lora_update(self) -> Any:
        """Returns what LoRA adds to the matrix, float32 `(inputs, outputs)`."""
        update = ops.matmul(self.lora_kernel_a, self.lora_kernel_b)
        return (self.lora_alpha / self.lora_rank) * update

    def save_own_variables(self, store: Any) -> None:
        if not self.lora_enabled:
            super().save_own_variables(store)
            return
        self.lora_enabled = False  # or Keras would write the merged matrix
        try:
            super().save_own_variables(store)
        finally:
            self.lora_enabled = True
        for name in LORA_NAMES:
            store[name] = ops.convert_to_numpy(getattr(self, name))
        store[LORA_FACTOR] = ops.convert_to_numpy(
            ops.convert_to_tensor(self.lora_alpha / self.lora_rank, "float32")
        )

    def load_own_variables(self, store: Any) -> None:
        keys = list(store.keys())  # no dictionary, but an open group of a file
        base = {k: store[k] for k in keys if k not in (*LORA_NAMES, LORA_FACTOR)}
        if not self.lora_enabled:
            super().load_own_variables(base)
            self._merge_from(store, keys)
            return
        shape = tuple(self.lora_kernel_a.shape)
        if LORA_FACTOR in keys and tuple(store[LORA_NAMES[0]].shape) == shape:
            # Ours are not read: KerasHub frees them on JAX before it loads a file.
            super().load_own_variables(base)  # zeros both factors of the update
            for name in LORA_NAMES:
                getattr(self, name).assign(store[name])
        else:  # an update of another rank, or none: ours begins, at zero
            kept = np.array(ops.convert_to_numpy(self.lora_kernel_a))  # not its memory
            super().load_own_variables(base)
            self._merge_from(store, keys)
            self.lora_kernel_a.assign(kept)

    def _merge_from(self, store: Any, keys: list[str]) -> None:
        """Adds the update that a file holds, if any, to the matrix."""
        if LORA_FACTOR not in keys:
            return
        a, b, factor = (
            ops.convert_to_tensor(store[name][...], "float32")
            for name in (*LORA_NAMES, LORA_FACTOR)
        )
        if self.quantization_mode in (None, "float8"):  # a matrix of real numbers
            self._kernel.assign(ops.add(self._kernel, factor * ops.matmul(a, b)))
        else:
            self._merge_rounded(a, b, float(ops.convert_to_numpy(factor)))

    def _merge_rounded(self, a: Any, b: Any, factor: float) -> None:
        """Adds an update to a matrix of whole numbers, which is rounded once more.

        By Keras' own arithmetic, which it has for files of layers with LoRA.
        """
        config = {k: v for k, v in self.get_config().items() if k[:5] != "lora_"}
        twin = keras.layers.Dense.from_config(config)
        twin.build((None, a.shape[0]))
        store: dict[str, Any] = {}
        lora_enabled, self.lora_enabled = self.lora_enabled, False
        keras.layers.Dense.save_own_variables(self, store)
        keras.layers.Dense.load_own_variables(twin, store)
        twin.enable_lora(a.shape[1], lora_alpha=factor * a.shape[1])
        twin.lora_kernel_a.assign(a)
        twin.lora_kernel_b.assign(b)
        merged: dict[str, Any] = {}
        twin.save_own_variables(merged)
        self.lora_enabled = lora_enabled
        super().load_own_variables(merged)
