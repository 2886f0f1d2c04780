"""What the vision and the text tower share: a stack of blocks and what runs it."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import keras
from keras import ops

from keras_pe.arrays import check_sizes, is_number
from keras_pe.layers.attention import RotaryTable
from keras_pe.layers.fine_tuning import (
    STATE_KEYS,
    adaptations,
    restore_state,
    state_config,
    walk,
)
from keras_pe.layers.transformer import TransformerBlock, drop_path_factors
from keras_pe.layers.windows import WindowedBlocks
from keras_pe.models.checked_model import CheckedModel


class Tower(CheckedModel):
    """A stack of transformer blocks with stochastic depth, rematerialisation, LoRA.

    Args: those of `PEVisionEncoder` of the same name.

    Attributes:
        modality: what the tower reads.
    """

    modality: ClassVar[Literal["vision", "text"]]

    def __init__(
        self,
        *,
        num_layers: int,
        hidden_dim: int,
        num_heads: int,
        intermediate_dim: int,
        layer_scale: float | None,
        drop_path: float,
        causal: bool,
        remat: bool,
        name: str,
        dtype: Any,
    ) -> None:
        super().__init__(name=name, dtype=dtype, autocast=False)
        check_sizes(
            num_layers=num_layers,
            hidden_dim=hidden_dim,
            intermediate_dim=intermediate_dim,
        )
        check_sizes(
            "Weights do not tell the number of heads: ask who trained them.",
            num_heads=num_heads,
        )
        if not 0.0 <= drop_path < 1.0:
            raise ValueError(f"drop_path must be in [0, 1), got {drop_path}.")
        self.num_layers = num_layers
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.head_dim = hidden_dim // num_heads
        self.intermediate_dim = intermediate_dim
        self.layer_scale = layer_scale
        self.drop_path = drop_path
        self.remat = remat
        self.blocks = [
            TransformerBlock(
                hidden_dim,
                num_heads,
                intermediate_dim,
                layer_scale=layer_scale,
                causal=causal,
                dtype=self.dtype_policy,
                name=f"block_{number}",
            )
            for number in range(1, num_layers + 1)
        ]
        # A seed is a variable; models that never draw should not carry one.
        self.seed_generator = keras.random.SeedGenerator() if drop_path else None

    def build_blocks(self) -> None:
        for block in self.blocks:
            block.build((None, None, self.hidden_dim))

    def drop_path_rates(self) -> list[float]:
        """Returns the rate of each block: linear from 0 to `drop_path`."""
        steps = max(self.num_layers - 1, 1)
        return [self.drop_path * i / steps for i in range(self.num_layers)]

    def draw_drop_path(self, batch: Any) -> Any:
        """Returns stochastic-depth factors for a training step, or None without any.

        Args:
            batch: number of samples.

        Returns:
            float32 `(blocks, 2, batch, 1, 1)`.
        """
        if self.seed_generator is None:
            return None
        return drop_path_factors(batch, self.drop_path_rates(), self.seed_generator)

    def run_blocks(
        self,
        x: Any,  # (batch, tokens, hidden_dim)
        layers: Sequence[int],
        *,
        rotary: RotaryTable | None = None,
        windowed: WindowedBlocks | None = None,
        pooled_token: Any = None,  # (batch, 1, 1) int32
        drop_path_factors: Any = None,  # from draw_drop_path; None draws them here
        training: bool | None = None,
    ) -> list[Any]:
        """Runs the blocks up to the last layer asked for; returns those layers.

        With `pooled_token`, the last of them is `(batch, 1, hidden_dim)`: the output of
        that token. Behind the attention a tower that pools one token needs that one
        alone, which leaves a quarter of the block's arithmetic.

        With `windowed`, the blocks that it numbers attend within windows; tokens stay
        cut into windows from one such block to the next.
        """
        factors, last = drop_path_factors, max(layers)
        if factors is None and training:
            factors = self.draw_drop_path(ops.shape(x)[0])
        outputs = {0: x} if 0 in layers else {}
        cut, mask = None, None  # the windows that the tokens lie in at present
        for number, block in enumerate(self.blocks[:last], start=1):
            table = rotary
            drop_path = None if factors is None else factors[number - 1]
            if windowed is not None and number in windowed.numbers:
                if cut is None:
                    cut = windowed.windows
                    x = cut.partition(x)
                    mask = cut.padding_mask(x)
                table, drop_path = windowed.rotary, cut.repeat(drop_path)
            elif cut is not None:
                x, cut, mask = cut.merge(x), None, None
            if pooled_token is not None and number == last:
                # The backward pass begins here: keeping it costs less than a rerun.
                x = block(
                    x, rotary=table, drop_path=drop_path, pooled_token=pooled_token
                )
            else:
                x = self._run_block(block, x, table, drop_path, mask)
            if number in layers:
                outputs[number] = cut.merge(x) if cut else x
        return [outputs[number] for number in layers]

    def _run_block(
        self,
        block: TransformerBlock,
        x: Any,
        rotary: RotaryTable | None,
        drop_path: Any,
        mask: Any,
    ) -> Any:
        fixed = {"rotary": rotary, "attention_mask": mask}
        if not self.remat:
            return block(x, drop_path=drop_path, **fixed)
        # Only arrays may cross the boundary of keras.remat, and none may be None.
        if drop_path is None:
            return keras.remat(lambda z: block(z, **fixed))(x)
        return keras.remat(lambda z, d: block(z, drop_path=d, **fixed))(x, drop_path)

    # === Parts ===
    def towers(self) -> dict[str, "Tower"]:
        """Returns the towers that this model consists of, by part: itself alone."""
        return {"": self}

    # === LoRA ===
    @property
    def trainable(self) -> bool:
        """Whether the tower is trained; with LoRA, whether its updates are."""
        return bool(self._trainable)

    @trainable.setter
    def trainable(self, value: bool) -> None:
        keras.Model.trainable.fset(self, value)
        if value and self.has_lora:
            self._freeze_base()

    @property
    def has_lora(self) -> bool:
        """Whether `enable_lora` was called."""
        # Keras sets `trainable` before there are blocks.
        blocks = getattr(self, "blocks", [])
        return any(dense.lora_enabled for b in blocks for dense in b.dense_layers())

    def enable_lora(self, rank: int, alpha: float | None = None) -> None:
        """Adds trainable low-rank updates to every block's `Dense`; freezes the rest.

        The rest stays frozen when `trainable` is set to False and to True again. Files
        and copies keep the updates apart from the weights; `merge_lora` and presets
        put them together.

        Args:
            rank: rank of the updates.
            alpha: scale of the updates; None is `rank`.

        Raises:
            ValueError: if the rank is no whole number above 0, alpha no number, or
                there is LoRA already.

        Source: Hu et al. 2021, "LoRA".
        """
        check_sizes(rank=rank)
        if alpha is not None and not is_number(alpha):
            raise ValueError(
                f"alpha must be a finite number, or None for the rank, got {alpha!r}."
            )
        if self.has_lora:
            ranks = {d.lora_rank for b in self.blocks for d in b.dense_layers()}
            raise ValueError(
                f"{self.name} has LoRA already, of rank {ranks.pop()}. For another "
                f"rank call it on encoder.merge_lora(), a copy that holds the updates "
                f"in its weights."
            )
        self.trainable = True
        for block in self.blocks:
            for dense in block.dense_layers():
                dense.enable_lora(rank, lora_alpha=alpha)
        self._freeze_base()

    def _freeze_base(self) -> None:
        """Leaves the updates of LoRA alone trainable."""
        for layer in self._flatten_layers(recursive=True):
            if getattr(layer, "lora_enabled", False):
                layer._kernel.trainable = False
                if layer.bias is not None:
                    layer.bias.trainable = False
            elif not layer._layers:
                layer.trainable = False
            else:  # a layer of layers: only what it owns itself
                for variable in layer._trainable_variables:
                    variable.trainable = False

    def merge_lora(self) -> Self:
        """Returns a copy without LoRA, its updates added to the weights.

        It computes the same. All of it is trainable.

        Raises:
            ValueError: if the tower is quantised: sums would be rounded again.
        """
        if any("quantization" in entry for entry in adaptations(self).values()):
            raise ValueError(
                f"{self.name} is quantised, and adding updates to whole numbers would "
                f"round them away. Save it as it is, with save(...)."
            )
        config = {k: v for k, v in self.get_config().items() if k not in STATE_KEYS}
        copy = type(self).from_config(config)
        parts = dict(walk(copy))
        for path, layer in walk(self):
            theirs = {variable.name: variable for variable in _own(parts[path])}
            for variable in _own(layer):
                if variable.name in theirs:  # else an update of LoRA
                    theirs[variable.name].assign(variable)
            if getattr(layer, "lora_enabled", False):
                kernel = parts[path]._kernel
                kernel.assign(ops.add(kernel, layer.lora_update()))
        return copy

    # === Config ===
    def tower_config(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "dtype": _policy_config(self.dtype_policy),
            "num_layers": self.num_layers,
            "hidden_dim": self.hidden_dim,
            "num_heads": self.num_heads,
            "intermediate_dim": self.intermediate_dim,
            "layer_scale": self.layer_scale,
            "drop_path": self.drop_path,
            "remat": self.remat,
            **state_config(self),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        config = dict(config)
        state = {key: config.pop(key) for key in STATE_KEYS if key in config}
        if isinstance(config.get("dtype"), dict):
            config["dtype"] = keras.dtype_policies.deserialize(config["dtype"])
        tower = cls(**config)
        restore_state(tower, state)
        return tower


def resolve_layers(
    layers: int | list[int] | tuple[int, ...], num_layers: int
) -> tuple[int, ...]:
    """Turns layer numbers, negatives allowed, into numbers from 0 to `num_layers`.

    Args:
        layers: one number or several; k is the output of block k, 0 the input of the
            first block, -1 the last block.
        num_layers: blocks of the encoder.

    Raises:
        ValueError: if a number is out of range.
        TypeError: if it is no whole number.
    """
    numbers = list(layers) if isinstance(layers, list | tuple) else [layers]
    resolved = []
    for number in numbers:
        if isinstance(number, bool) or not hasattr(number, "__index__"):
            raise TypeError(
                f"Layers are whole numbers, got {number!r} ({type(number).__name__})."
            )
        number = number.__index__()
        if not -num_layers <= number <= num_layers:
            raise ValueError(
                f"This encoder has layers 0 (input of the first block) to "
                f"{num_layers} (output of the last), or -1 to -{num_layers} counted "
                f"from the end; got {number}."
            )
        resolved.append(number if number >= 0 else num_layers + 1 + number)
    return tuple(resolved)


def _own(layer: keras.Layer) -> list[Any]:
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def _policy_config(policy: Any) -> Any:
    """Returns a dtype policy as JSON.

    The name says it all but for a map of policies. Keras' serialiser, which also does
    maps, imports TensorFlow if it is installed: three seconds on any backend.
    """
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap):
        return keras.dtype_policies.serialize(policy)
    return policy.name
