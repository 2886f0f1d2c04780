"""What our layers share: the check of sizes, and the state beside them.

The state is what is frozen, quantised or adapted. Keras keeps it in the configuration
of each layer. Our layers make their sublayers themselves, so their own configuration
has to say it for all of them. It says exceptions only: the configuration of a layer as
it was made says nothing.
"""

import contextlib
import gc
import numbers
from collections.abc import Iterator, Mapping
from typing import Any, Self

import keras


def check_sizes(hint: str = "", **sizes: Any) -> None:
    """Raises ValueError for the first size that is no whole number of at least 1.

    Args:
        hint: what else to tell the reader, a sentence.
        **sizes: the sizes by the names of the arguments that they were given as.

    Raises:
        ValueError: naming the argument.

    Example:
        >>> check_sizes(patch_size=16, hidden_dim=0)
        Traceback (most recent call last):
        ValueError: hidden_dim must be a whole number of at least 1, got 0.
    """
    for name, size in sizes.items():
        whole = isinstance(size, numbers.Integral) and not isinstance(size, bool)
        if not whole or size < 1:
            raise ValueError(
                f"{name} must be a whole number of at least 1, got {size!r}. "
                f"{hint}".rstrip()
            )


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
    left = dict(found)
    with _quick_collections():
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
def _quick_collections() -> Iterator[None]:
    """Spares Keras' garbage collection at every quantised layer: half a second each.

    It looks at all objects of the process; frozen ones it leaves out.
    """
    if gc.get_freeze_count():
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
