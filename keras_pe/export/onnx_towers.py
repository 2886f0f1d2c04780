"""The towers written as ONNX graphs, from their sizes and weights.

Tracing does it too, `torch.onnx.export` by way of `torch.export`, but takes 55 seconds
for six blocks where this takes 0.2, needs PyTorch and onnxscript, gives two and a half
times the nodes, and a text tower of one batch size, in silence. What is written here
computes the same numbers up to rounding, which each export checks; arguments that it
does not know are refused.

Three rewrites make the file faster without changing what it computes:

* The first channels of all pairs of queries and keys come before the second ones, by
  reordering columns of the projection: the same order in both leaves their products as
  they are, and RoPE needs one cut and no axis of pairs.
* Factors that follow a matrix, the scale of the attention and LayerScale, go into it.
* The pooling's probe is the same for all images: keys are multiplied by it beforehand
  (one column a head instead of a matrix), and values after tokens were averaged.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from keras import ops

from keras_pe.export.onnx_graph import Graph, Inputs, Quantized
from keras_pe.layers.attention import rotary_table
from keras_pe.layers.patch_embedding import LARGEST_PIXEL
from keras_pe.layers.transformer import NORM_EPSILON
from keras_pe.models.text_encoder import PETextEncoder
from keras_pe.models.tower import Tower
from keras_pe.models.vision_encoder import PEVisionEncoder

MASKED = -1e9  # of a logit that is not seen, as in `attention_weights`
GELU = "none"  # exact, as `FeedForward`
# What the graphs below take into account, or what changes nothing of inference.
_KNOWN = frozenset(
    (
        *("name", "dtype", "num_layers", "hidden_dim", "num_heads", "intermediate_dim"),
        *("layer_scale", "drop_path", "remat", "trainable_flags", "image_size"),
        *("patch_size", "output_dim", "class_token", "pooling", "pooling_heads"),
        *("final_norm", "output_bias", "rope", "rope_reference_grid"),
        *("vocabulary_size", "context_length"),
    )
)


def tower_graph(
    tower: Tower,
    image_size: tuple[int, int] | None = None,
    quantized: Mapping[str, Quantized] | None = None,
    half: bool = False,
    layers: tuple[str, ...] = (),
) -> tuple[Any, Graph]:
    """Writes a tower as an ONNX model with a dynamic batch.

    Args:
        tower: a vision or text encoder in float32, without LoRA or quantisation.
        image_size: height and width; None is the tower's own.
        quantized: the matrices to multiply in int8; see `Graph`.
        half: whether weights are stored in float16.
        layers: values to give out beside the tower's output.

    Returns:
        The `ModelProto`, and the graph it was made from, which knows its matrices.

    Raises:
        ValueError: if the tower has an argument that is not known here.
    """
    unknown = sorted(set(tower.get_config()) - _KNOWN)
    if unknown:
        raise ValueError(
            f"{tower.name} has {', '.join(unknown)}, of which the ONNX export knows "
            f'nothing. Export it with format="torch" or "savedmodel", or convert it: '
            f"encoder.convert(window_size=None) or encoder.merge_lora()."
        )
    graph = Graph(quantized, half)
    if isinstance(tower, PEVisionEncoder):
        height, width = image_size or (tower.image_size, tower.image_size)
        last, shape = _vision(graph, tower, (height, width))
        inputs: Inputs = ("images", "FLOAT", ("batch", height, width, 3))
    elif isinstance(tower, PETextEncoder):
        last, shape = _text(graph, tower)
        inputs = ("token_ids", "INT32", ("batch", tower.context_length))
    else:
        raise TypeError(f"Expected a vision or text encoder, got {type(tower)}.")
    output = output_name(tower)
    graph.add("Identity", last, name=output)
    model = graph.model(inputs, {output: ("batch", *shape)})
    give_out(model, layers)
    return model, graph


def output_name(tower: Tower) -> str:
    """Returns what a file's output is called: "embeddings", or "tokens"."""
    return "tokens" if getattr(tower, "pooling", "") is None else "embeddings"


def give_out(model: Any, layers: tuple[str, ...]) -> None:
    """Makes values outputs of a model too, whatever their shape."""
    from onnx import TensorProto, helper

    for name in layers:
        model.graph.output.append(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        )


# === Vision ===
def _vision(
    graph: Graph, tower: PEVisionEncoder, size: tuple[int, int]
) -> tuple[str, tuple[int, ...]]:
    patches = tower.patch_embedding
    rows, columns = patches.grid((None, *size, 3))
    side, channels = tower.patch_size, 3 * tower.patch_size**2
    x = graph.reshape("images", (0, rows, side, columns, side, 3), "patches/cut")
    x = graph.add("Transpose", x, name="patches/in_order", perm=[0, 1, 3, 2, 4, 5])
    x = graph.reshape(x, (0, rows * columns, channels), "patches")
    x = graph.dense(x, *weights(patches.projection), name="patch_embedding/projection")
    table = array(patches.positions((rows, columns)))
    if tower.class_token:  # an empty place, which the table of positions fills
        pads = graph.constant(np.array([0, 1, 0, 0, 0, 0]), "class_token/pads")
        x = graph.add("Pad", x, pads, name="class_token")
        table[0] += array(patches.class_embedding)
    positions = graph.constant(table, "patch_embedding/positions")
    x = graph.add("Add", x, positions, name="patch_embedding")
    x = _without_wrong_images(graph, x)
    x = norm(graph, x, tower.pre_norm, "pre_norm")
    rotary = None
    if tower.rope:
        rotary = rotary_table(
            (rows, columns),
            tower.head_dim,
            class_token=tower.class_token,
            reference_grid=tower.rope_reference_grid,
        )
    tokens = rows * columns + int(tower.class_token)
    x = blocks(graph, x, tower, tokens, rotary)
    if tower.norm is not None:
        x = norm(graph, x, tower.norm, "norm")
    shape: tuple[int, ...] = (tower.hidden_dim,)
    if tower.attention_pooling is not None:
        x = attention_pooling(graph, x, tower.attention_pooling)
    elif tower.pooling == "token":
        first = graph.constant(np.array(0), "first_token")
        x = graph.add("Gather", x, first, name="pooled", axis=1)
    elif tower.pooling == "average":
        axes = graph.constant(np.array([1]), "pooled/axes")
        x = graph.add("ReduceMean", x, axes, name="pooled", keepdims=0)
    else:
        shape = (tokens, tower.hidden_dim)
    if tower.projection is not None:
        x = graph.dense(x, *weights(tower.projection), name="projection")
        shape = (*shape[:-1], tower.projection.units)
    return x, shape


def _without_wrong_images(graph: Graph, x: str) -> str:
    """Makes images of 0 to 255 NaN, as the model does: no answer, not a wrong one."""
    axes = graph.constant(np.array([1, 2, 3]), "pixels/axes")
    beyond = []
    for kind, compare, sign in (("Max", "Greater", 1), ("Min", "Less", -1)):
        name = f"pixels/{kind.lower()}"
        end = graph.add(f"Reduce{kind}", "images", axes, name=name, keepdims=0)
        limit = np.array(sign * LARGEST_PIXEL, "float32")
        limits = graph.constant(limit, f"{name}/limit")
        beyond.append(graph.add(compare, end, limits, name=f"{name}/beyond"))
    return _not_a_number_where(graph, graph.add("Or", *beyond, name="wrong_image"), x)


def _not_a_number_where(graph: Graph, wrong: str, x: str) -> str:
    axes = graph.constant(np.array([1, 2]), f"{wrong}/axes")
    wrong = graph.add("Unsqueeze", wrong, axes, name=f"{wrong}/rows")
    nan = graph.constant(np.array(np.nan, "float32"), f"{wrong}/nan")
    return graph.add("Where", wrong, nan, x, name=f"{wrong}/refused")


def attention_pooling(graph: Graph, x: str, layer: Any) -> str:
    """Adds `AttentionPooling`; `(batch, tokens, channels)` to `(batch, channels)`."""
    name, dim = "attention_pooling", layer.hidden_dim
    heads, head_dim = layer.num_heads, layer.head_dim
    kernel, bias = weights(layer.query)
    query = (array(layer.probe) @ kernel + bias).reshape(heads, head_dim)
    kernel, bias = weights(layer.key_value)
    keys = kernel[:, :dim].reshape(dim, heads, head_dim)
    # What keys' bias adds is the same for all tokens, and softmax does not see it.
    asked = np.einsum("dhc,hc->dh", keys, query) * np.float32(head_dim**-0.5)
    logits = graph.dense(x, asked, None, f"{name}/logits")  # (batch, tokens, heads)
    logits = graph.add("Transpose", logits, name=f"{name}/by_head", perm=[0, 2, 1])
    share = graph.add("Softmax", logits, name=f"{name}/weights", axis=-1)
    mean = graph.add("MatMul", share, x, name=f"{name}/mean")  # (batch, heads, dim)
    mean = graph.reshape(mean, (0, heads, 1, dim), f"{name}/mean_by_head")
    by_head = kernel[:, dim:].reshape(dim, heads, head_dim).transpose(1, 0, 2)
    values = graph.constant(by_head, f"{name}/values")
    pooled = graph.add("MatMul", mean, values, name=f"{name}/heads")
    pooled = graph.reshape(pooled, (0, dim), f"{name}/pooled")
    # Shares sum to one: the values' bias can be added afterwards, through the matrix.
    kernel, out_bias = weights(layer.output_projection)
    out_bias = out_bias + bias[dim:] @ kernel
    pooled = graph.dense(pooled, kernel, out_bias, f"{name}/output")
    more = norm(graph, pooled, layer.norm, f"{name}/norm")
    more = feed_forward(graph, more, layer.feed_forward, None, f"{name}/feed_forward")
    return graph.add("Add", pooled, more, name=name)


# === Text ===
def _text(graph: Graph, tower: PETextEncoder) -> tuple[str, tuple[int, ...]]:
    low = graph.constant(np.array(0, "int32"), "first_id")
    high = graph.constant(np.array(tower.vocabulary_size - 1, "int32"), "last_id")
    known = graph.add("Clip", "token_ids", low, high, name="known_ids")
    equal = graph.add("Equal", known, "token_ids", name="is_known")
    wrong = graph.add("Not", equal, name="is_unknown")
    wrong = graph.add("Cast", wrong, name="is_unknown/number", to=1)
    axes = graph.constant(np.array([1]), "unknown/axes")
    wrong = graph.add("ReduceMax", wrong, axes, name="unknown", keepdims=0)
    wrong = graph.add("Cast", wrong, name="wrong_text", to=9)
    table = graph.constant(array(tower.token_embedding.embeddings), "token_embedding")
    x = graph.add("Gather", table, known, name="embedded")
    x = _not_a_number_where(graph, wrong, x)
    positions = graph.constant(array(tower.position_embedding), "position_embedding")
    x = graph.add("Add", x, positions, name="text_embedding")
    end = graph.add("ArgMax", "token_ids", name="end_of_text", axis=1, keepdims=1)
    x = blocks(graph, x, tower, tower.context_length, None, end)
    x = norm(graph, x, tower.norm, "norm")
    x = graph.dense(x, *weights(tower.projection), name="projection")
    return x, (tower.output_dim,)


# === Both ===
def blocks(
    graph: Graph,
    x: str,
    tower: Tower,
    tokens: int,
    rotary: tuple[np.ndarray, np.ndarray] | None,
    pooled_token: str | None = None,
) -> str:
    """Adds the blocks; with `pooled_token`, the last gives out that token alone."""
    tables = None
    if rotary is not None:
        cos, sin = (np.tile(table, 2 * tower.num_heads) for table in rotary)
        tables = (
            graph.constant(cos, "rope/cos", exact=True),
            graph.constant(sin, "rope/sin", exact=True),
        )
    mask = None
    if tower.blocks[0].causal:
        future = np.triu(np.full((tokens, tokens), MASKED, "float32"), 1)
        mask = graph.constant(future, "future", exact=True)  # beyond float16
    for number, block in enumerate(tower.blocks, start=1):
        only = pooled_token if number == tower.num_layers else None
        x = _block(graph, x, block, f"block_{number}", tokens, tables, mask, only)
    return x


def _block(
    graph: Graph,
    x: str,
    block: Any,
    name: str,
    tokens: int,
    rotary: tuple[str, str] | None,
    mask: str | None,
    only: str | None,
) -> str:
    heads, head_dim = block.num_heads, block.hidden_dim // block.num_heads
    branch = norm(graph, x, block.attention_norm, f"{name}/attention_norm")
    inside = f"{name}/attention"
    kernel, bias = _projection(block.attention, rotary is not None)
    qkv = graph.dense(branch, kernel, bias, f"{inside}/qkv")
    dim = block.hidden_dim
    if rotary is None:
        query, key, value = graph.split(qkv, (dim, dim, dim), -1, f"{inside}/parts")
        shape = (0, tokens, heads, head_dim)
        query = graph.reshape(query, shape, f"{inside}/queries")
        key = graph.reshape(key, shape, f"{inside}/keys")
    else:
        even, odd, value = graph.split(qkv, (dim, dim, dim), -1, f"{inside}/parts")
        pair = _rotate(graph, (even, odd), rotary, inside, (tokens, heads, head_dim))
        query, key = graph.split(pair, (heads, heads), 2, f"{inside}/turned_parts")
    value = graph.reshape(value, (0, tokens, heads, head_dim), f"{inside}/values")
    query = graph.add("Transpose", query, name=f"{inside}/query", perm=[0, 2, 1, 3])
    key = graph.add("Transpose", key, name=f"{inside}/key", perm=[0, 2, 3, 1])
    value = graph.add("Transpose", value, name=f"{inside}/value", perm=[0, 2, 1, 3])
    logits = graph.add("MatMul", query, key, name=f"{inside}/logits")
    if mask is not None:
        logits = graph.add("Add", logits, mask, name=f"{inside}/past")
    share = graph.add("Softmax", logits, name=f"{inside}/weights", axis=-1)
    seen = graph.add("MatMul", share, value, name=f"{inside}/seen")
    seen = graph.add("Transpose", seen, name=f"{inside}/by_token", perm=[0, 2, 1, 3])
    seen = graph.reshape(seen, (0, tokens, block.hidden_dim), f"{inside}/joined")
    if only is not None:  # (batch, tokens, channels) to (batch, channels)
        seen = graph.add("GatherND", seen, only, name=f"{inside}/only", batch_dims=1)
        x = graph.add("GatherND", x, only, name=f"{name}/only", batch_dims=1)
    kernel, bias = _scaled(block.attention.output_projection, block.attention_scale)
    branch = graph.dense(seen, kernel, bias, f"{inside}/output")
    x = graph.add("Add", x, branch, name=f"{inside}/residual")
    branch = norm(graph, x, block.feed_forward_norm, f"{name}/feed_forward_norm")
    branch = feed_forward(
        graph,
        branch,
        block.feed_forward,
        block.feed_forward_scale,
        f"{name}/feed_forward",
    )
    return graph.add("Add", x, branch, name=name)


def _rotate(
    graph: Graph,
    halves: tuple[str, str],
    rotary: tuple[str, str],
    name: str,
    sizes: tuple[int, int, int],
) -> str:
    """Turns queries and keys: the first and the second channels of all their pairs.

    Returns:
        `(batch, tokens, 2 heads, head_dim)`, queries before keys.
    """
    tokens, heads, head_dim = sizes
    parts = {
        (half, table): graph.add("Mul", x, by, name=f"{name}/{half}_{table}")
        for half, x in zip(("even", "odd"), halves, strict=True)
        for table, by in zip(("cos", "sin"), rotary, strict=True)
    }
    turned = [
        graph.add(
            "Sub", parts["even", "cos"], parts["odd", "sin"], name=f"{name}/even"
        ),
        graph.add("Add", parts["odd", "cos"], parts["even", "sin"], name=f"{name}/odd"),
    ]
    shape = (0, tokens, 2 * heads, head_dim // 2)
    turned = [graph.reshape(x, shape, f"{x}_by_head") for x in turned]
    return graph.add("Concat", *turned, name=f"{name}/turned", axis=-1)


def _projection(attention: Any, pairs: bool) -> tuple[np.ndarray, np.ndarray]:
    """Returns the matrix to queries, keys and values, reordered and scaled.

    Columns are queries, keys, values; with `pairs` the first channels of all pairs of
    queries and keys, then the second ones, then values.
    """
    kernel, bias = weights(attention.qkv)
    heads, head_dim = attention.num_heads, attention.head_dim
    columns: np.ndarray = np.concatenate([kernel, bias[None]]).reshape(
        -1, 3, heads, head_dim
    )
    columns[:, 0] *= np.float32(head_dim**-0.5)
    if pairs:
        rows = len(columns)
        queries, values = columns[:, :2], columns[:, 2]
        parts = (queries[..., 0::2], queries[..., 1::2], values)
        columns = np.concatenate([part.reshape(rows, -1) for part in parts], axis=1)
    flat = columns.reshape(len(columns), -1)
    return flat[:-1], flat[-1]


def feed_forward(graph: Graph, x: str, layer: Any, scale: Any, name: str) -> str:
    """Adds `FeedForward`, with a LayerScale behind it if there is one."""
    x = graph.dense(x, *weights(layer.expand), name=f"{name}/expand")
    x = graph.add("Gelu", x, name=f"{name}/gelu", approximate=GELU)
    return graph.dense(x, *_scaled(layer.contract, scale), name=f"{name}/contract")


def norm(graph: Graph, x: str, layer: Any, name: str) -> str:
    """Adds a `LayerNormalization`."""
    gamma = graph.constant(array(layer.gamma), f"{name}/gamma")
    beta = graph.constant(array(layer.beta), f"{name}/beta")
    return graph.add(
        "LayerNormalization", x, gamma, beta, name=name, epsilon=NORM_EPSILON, axis=-1
    )


def _scaled(dense: Any, scale: Any) -> tuple[np.ndarray, np.ndarray]:
    kernel, bias = weights(dense)
    if scale is None:
        return kernel, bias
    factors = array(scale.scale)
    return kernel * factors, bias * factors


def weights(dense: Any) -> tuple[np.ndarray, Any]:
    """Returns kernel and bias of a `Dense`; None for no bias."""
    bias = None if dense.bias is None else array(dense.bias)
    return array(dense.kernel), bias


def array(variable: Any) -> np.ndarray:
    """Returns a variable as a float32 array of its own."""
    return np.array(ops.convert_to_numpy(ops.convert_to_tensor(variable)), "float32")
