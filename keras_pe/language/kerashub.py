"""Language models of KerasHub, run on embeddings: a registry of families."""

import dataclasses
import functools
import importlib
from typing import Any, Literal

import keras
from keras import ops

from keras_pe.arrays import check_sizes
from keras_pe.language.decoder import (
    Caches,
    check_ids,
    check_length,
    check_place,
    checked_tokens,
    same_document,
)


@dataclasses.dataclass(frozen=True)
class Family:
    """How the blocks of a family are called.

    Attributes:
        padding: argument for `(batch, tokens)`, 0 for padding.
        mask: argument for `(batch, tokens, tokens)`, what else is not seen; None where
            there is none, so that a row holds one document.
        cache: argument for keys and values of the tokens before.
        index: argument for the place of the first new token.
        norm: the model's last norm.
        heads: where the model says how many heads there are.
        scaled: whether embeddings are multiplied by the root of their width.
        layout: of a cache: one tensor `(batch, 2, length, heads, head_dim)`, or a pair.
    """

    padding: str = "decoder_padding_mask"
    mask: str | None = "decoder_attention_mask"
    cache: str = "self_attention_cache"
    index: str = "self_attention_cache_update_index"
    norm: str = "layer_norm"
    heads: str = "num_query_heads"
    scaled: bool = False
    layout: Literal["stack", "pair"] = "stack"


_GEMMA = Family("padding_mask", None, "cache", "cache_update_index", scaled=True)
# By the class of the backbone. A model's kin may run too, but not in silence.
FAMILIES: dict[str, Family] = {
    "LlamaBackbone": Family(),  # SmolLM2 too
    "Llama3Backbone": Family(),
    "MistralBackbone": Family(),
    "QwenBackbone": Family(),  # 2.5
    "Qwen3Backbone": Family(),
    "GemmaBackbone": _GEMMA,  # 2 too
    "Gemma3Backbone": dataclasses.replace(_GEMMA, layout="pair"),
    "Phi3Backbone": Family(
        cache="attention_cache", index="attention_cache_update_index"
    ),
    "SmolLM3Backbone": Family(norm="norm", heads="num_attention_heads"),
}


@keras.saving.register_keras_serializable("keras_pe")
class KerasHubDecoder(keras.Model):
    """A `Decoder` that is a KerasHub backbone, which is used, not copied.

    All of them are causal, over the tokens of images too. Places are those in the row:
    rotary positions are relative, so that packed documents see what they would alone.

    Args:
        backbone: such as `keras_hub.models.Llama3Backbone.from_preset(...)`; of a
            causal language model its `backbone`.
        max_length: most tokens of a sequence.
        remat: whether blocks are recomputed in the backward pass to save memory.
        name: name of the model.

    Attributes:
        packs: whether several documents may stand in a row.
        reads_positions: False: documents may not branch.

    Raises:
        TypeError: if it is no backbone of a family that is known.

    Example:
        >>> import keras_hub
        >>> backbone = keras_hub.models.Llama3Backbone(    # or its from_preset(...)
        ...     vocabulary_size=60, num_layers=1, hidden_dim=16, intermediate_dim=32,
        ...     num_query_heads=2, num_key_value_heads=1)
        >>> decoder = KerasHubDecoder(backbone, max_length=128)
        >>> decoder.hidden_dim, decoder.vocabulary_size, decoder.packs
        (16, 60, True)
    """

    def __init__(
        self,
        backbone: Any,
        max_length: int = 4096,
        remat: bool = False,
        name: str | None = None,
    ) -> None:
        kind = type(backbone).__name__
        family = FAMILIES.get(kind)
        if family is None:
            raise TypeError(
                f"A {kind} is none of the language models that can be run on "
                f"embeddings: {', '.join(FAMILIES)}. Of a CausalLM give its backbone."
            )
        policy = backbone.dtype_policy
        super().__init__(name=name or backbone.name, dtype=policy, autocast=False)
        check_sizes(max_length=max_length)
        self.backbone, self.max_length, self.remat = backbone, max_length, remat
        self.family = family
        self.hidden_dim = int(backbone.hidden_dim)
        self.vocabulary_size = int(backbone.vocabulary_size)
        self.packs = family.mask is not None
        self.reads_positions = False
        heads = getattr(backbone, family.heads)
        self.head_dim = int(
            getattr(backbone, "head_dim", None) or self.hidden_dim // heads
        )
        self.built = True

    def towers(self) -> dict[str, keras.Model]:
        """Returns itself: the one part of it."""
        return {"": self}

    def embed(self, token_ids: Any) -> Any:
        """Returns `(batch, tokens, hidden_dim)`, of ids `(batch, tokens)`."""
        check_ids(self, token_ids)
        x = self.backbone.token_embedding(token_ids)
        if self.family.scaled:
            x = x * ops.cast(self.hidden_dim**0.5, x.dtype)
        return x

    def run(
        self,
        embeddings: Any,  # (batch, tokens, hidden_dim)
        *,
        positions: Any = None,
        documents: Any = None,  # (batch, tokens) int32
        training: bool | None = None,
    ) -> Any:
        """Returns what stands behind the last norm; see `Decoder.run`.

        `positions` are not read. Where the family takes no mask, what `documents` says
        is padding is not seen, and all others are one document.
        """
        return self(embeddings, documents=documents, training=training)

    def call(
        self,
        embeddings: Any,  # (batch, tokens, hidden_dim)
        documents: Any = None,  # (batch, tokens) int32
        training: bool | None = None,
    ) -> Any:
        checked_tokens(self, embeddings.shape)
        options = {}
        if documents is not None and self.family.mask is not None:
            same = same_document(documents)[:, 0]  # (batch, tokens, tokens)
            options[self.family.mask] = ops.cast(same, "int32")
        elif documents is not None:
            options[self.family.padding] = ops.cast(documents > 0, "int32")
        x = ops.cast(embeddings, self.compute_dtype)
        again = self.remat and not getattr(self.backbone, "dropout", 0)
        for block in self.backbone.transformer_layers:
            # A block that draws random numbers would draw others the second time.
            run = functools.partial(block, **options)
            x = keras.remat(run)(x) if again else run(x)
        return getattr(self.backbone, self.family.norm)(x)

    def run_cached(
        self, embeddings: Any, caches: Caches, index: Any
    ) -> tuple[Any, Caches]:
        """Returns `run`'s result for new tokens, and the caches with them in."""
        tokens = checked_tokens(self, embeddings.shape)
        held = caches[0] if self.family.layout == "stack" else caches[0][0]
        check_place(index, tokens, held.shape[-3])
        x = ops.cast(embeddings, self.compute_dtype)
        place = ops.cast(index, "int32")  # SmolLM3 takes no number
        found = []
        for block, cache in zip(self.backbone.transformer_layers, caches, strict=True):
            options = {self.family.cache: cache, self.family.index: place}
            x, new = block(x, **options)
            found.append(new)
        return getattr(self.backbone, self.family.norm)(x), found

    def new_caches(self, batch: int, length: int) -> Caches:
        """Returns empty caches for sequences of at most `length` tokens.

        Raises:
            ValueError: if that is more than `max_length`.
        """
        check_length(self, length, "in a cache")
        shape = (length, int(self.backbone.num_key_value_heads), self.head_dim)

        def zeros(*before: int) -> Any:
            return ops.zeros((*before, *shape), self.compute_dtype)

        if self.family.layout == "pair":
            return [(zeros(batch), zeros(batch)) for _ in self._blocks()]
        return [zeros(batch, 2) for _ in self._blocks()]

    def _blocks(self) -> list[Any]:
        return list(self.backbone.transformer_layers)

    def logits(self, hidden: Any) -> Any:  # (..., hidden_dim)
        """Returns `(..., vocabulary_size)` float32, of what `run` returns."""
        return ops.cast(self.backbone.token_embedding(hidden, reverse=True), "float32")

    # === Config ===
    def compute_output_shape(self, embeddings_shape: Any, **shapes: Any) -> Any:
        return embeddings_shape

    def get_config(self) -> dict[str, Any]:
        backbone = keras.saving.serialize_keras_object(self.backbone)
        tied = getattr(self.backbone.token_embedding, "tie_weights", None)
        if type(self.backbone).__name__ == "LlamaBackbone":  # 0.32 does not say it
            backbone["config"].setdefault("tie_word_embeddings", tied)
        return {
            "name": self.name,
            "max_length": self.max_length,
            "remat": self.remat,
            "backbone": backbone,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        importlib.import_module("keras_hub")  # which registers its classes
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return cls(**{**config, "backbone": backbone})
