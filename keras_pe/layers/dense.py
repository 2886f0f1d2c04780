"""A `Dense` layer whose low-rank updates survive freezing, thawing and files."""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.layers.initializers import GlorotUniform, HeUniform

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
        kept = np.array(ops.convert_to_numpy(self.lora_kernel_a))  # not its memory
        super().load_own_variables(base)  # zeros both factors of the update
        if LORA_FACTOR in keys and store[LORA_NAMES[0]].shape == kept.shape:
            for name in LORA_NAMES:
                getattr(self, name).assign(store[name])
        else:  # an update of another rank, or none: ours begins, at zero
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
