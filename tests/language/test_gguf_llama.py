"""Llama out of a tiny GGUF file, against a forward pass in the file's own layout."""

import numpy as np
import pytest

from keras_pe.language import VisionLanguageModel, generate
from keras_pe.language.gguf_llama import llama_decoder, llama_prompt, unpermuted
from keras_pe.presets import CheckpointError
from tests.arrays import to_numpy
from tests.language.test_generation import slow_answer

gguf = pytest.importorskip("gguf")
pytest.importorskip("keras_hub")
pytestmark = pytest.mark.slow

WIDTH, INNER, HEADS, GROUPS, LAYERS = 64, 96, 4, 2, 2
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
BASE, EPSILON = 5000.0, 1e-5


def vocabulary():
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "Ġa", "th", "the"]


def write(path, tied=True, quantised=True, **changes):
    """Writes a file of random weights; returns them as they are read, by name."""
    rng = np.random.default_rng(0)
    words = vocabulary()
    keys = WIDTH // HEADS * GROUPS
    shapes = {"token_embd": (len(words), WIDTH), "output_norm": (WIDTH,)}
    if not tied:
        shapes["output"] = (len(words), WIDTH)
    for n in range(LAYERS):
        block = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (keys, WIDTH),
            "attn_v": (keys, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }
        shapes.update({f"blk.{n}.{name}": shape for name, shape in block.items()})
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(len(words))
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(GROUPS)
    writer.add_rope_freq_base(BASE)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(words) - len(SPECIAL)))
    writer.add_token_merges(["Ġ a", "t h", "th e"])
    for name, value in changes.items():
        writer.add_string(name.replace("__", "."), value)
    weights = {}
    for name, shape in shapes.items():
        array = rng.normal(0, 0.2, shape).astype("float32")
        if "norm" in name:
            array += 1.0
        kind = gguf.GGMLQuantizationType.Q8_0
        if quantised and array.ndim == 2:
            packed = gguf.quants.quantize(array, kind)
            writer.add_tensor(f"{name}.weight", packed, raw_dtype=kind)
            array = gguf.quants.dequantize(packed, kind)
        else:
            writer.add_tensor(f"{name}.weight", array)
        weights[name] = array
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return weights


def forward(weights, ids):
    """Returns logits `(tokens, words)`, in NumPy, with ggml's RoPE of neighbours."""

    def norm(x, scale):
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * scale

    tokens, size = len(ids), WIDTH // HEADS
    angles = np.arange(tokens)[:, None] / BASE ** (np.arange(0, size, 2) / size)
    turn = np.exp(1j * angles)[:, None]  # (tokens, 1, size / 2)

    def turned(x):  # (tokens, heads, size)
        pairs = np.ascontiguousarray(x).reshape(tokens, -1, size // 2, 2)
        z = (pairs[..., 0] + 1j * pairs[..., 1]) * turn
        return np.stack([z.real, z.imag], -1).reshape(x.shape)

    x = weights["token_embd"][ids].astype("float64")
    mask = np.triu(np.full((tokens, tokens), -np.inf), 1)
    for n in range(LAYERS):
        w = {k.split(".")[-1]: v for k, v in weights.items() if f"blk.{n}." in k}
        y = norm(x, w["attn_norm"])
        q = turned((y @ w["attn_q"].T).reshape(tokens, HEADS, size))
        k = turned((y @ w["attn_k"].T).reshape(tokens, GROUPS, size))
        v = (y @ w["attn_v"].T).reshape(tokens, GROUPS, size)
        k, v = (np.repeat(z, HEADS // GROUPS, axis=1) for z in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size) + mask
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        y = np.einsum("hqk,khd->qhd", shares, v).reshape(tokens, WIDTH)
        x = x + y @ w["attn_output"].T
        y = norm(x, w["ffn_norm"])
        gate = y @ w["ffn_gate"].T
        y = gate / (1 + np.exp(-gate)) * (y @ w["ffn_up"].T)
        x = x + y @ w["ffn_down"].T
    x = norm(x, weights["output_norm"])
    return x @ weights.get("output", weights["token_embd"]).T


@pytest.mark.parametrize(("tied", "quantised"), [(True, True), (False, False)])
def test_its_logits_are_those_of_the_file(tmp_path, tied, quantised):
    path = tmp_path / "tiny.gguf"
    weights = write(path, tied, quantised)
    decoder = llama_decoder(path, max_length=32)
    ids = np.random.default_rng(1).integers(0, len(vocabulary()), 9)
    found = to_numpy(decoder.logits(decoder.run(decoder.embed(ids[None]))))[0]
    np.testing.assert_allclose(found, forward(weights, ids), atol=1e-3)
    prompt = to_numpy(decoder.embed(ids[None]))
    answer = generate(decoder, prompt, stop_id=2, max_tokens=4)
    assert answer[0].tolist() == slow_answer(decoder, prompt[0], 4, stop=2)


@pytest.mark.once
def test_rows_of_heads_are_in_halves():
    rows = unpermuted(np.arange(16).reshape(16, 1), heads=2).ravel().tolist()
    assert rows == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]


@pytest.mark.once
def test_its_prompt_is_chatml(tmp_path):
    write(tmp_path / "tiny.gguf")
    prompt = llama_prompt(tmp_path / "tiny.gguf", image_tokens=3)
    found = prompt.document("the 12", "a hat")
    ids = found.token_ids.copy()
    assert found.image.sum() == 3
    text = prompt.tokenizer.decode(ids[~found.image].tolist(), False)
    system = prompt.system
    assert text == (
        f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\nthe 12<|im_end|>\n"
        "<|im_start|>assistant\na hat<|im_end|>"
    )
    learned = ids[found.answer]
    assert learned[-1] == prompt.stop_id == 2
    assert prompt.text(learned) == "a hat"
    asked = prompt.question("the 12")
    np.testing.assert_array_equal(asked.token_ids, ids[: len(asked)])
    two = prompt.conversation([("a", "b"), ("c", "d")], image=False)
    text = prompt.tokenizer.decode(two.token_ids.tolist(), False)
    assert text.endswith(
        "b<|im_end|>\n<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\nd<|im_end|>"
    )
    assert prompt.vocabulary_size == len(vocabulary())
    words = list(prompt.tokenizer.encode("the 12").tokens)
    assert words == ["the", "Ġ", "1", "2"]
    with pytest.raises(ValueError, match="mark of"):
        prompt.question("a<|im_end|>")


def test_it_answers_about_images(tmp_path):
    from keras_pe import PEImageConverter
    from keras_pe.layers import VisionProjector
    from tests.small_models import vision_encoder

    write(tmp_path / "tiny.gguf")
    model = VisionLanguageModel(
        vision_encoder(num_layers=1),
        VisionProjector(32, WIDTH, pooling=2),
        llama_decoder(tmp_path / "tiny.gguf", max_length=512),
        llama_prompt(tmp_path / "tiny.gguf", image_tokens=4),
        PEImageConverter(32),
    )
    image = np.zeros((8, 8, 3), "uint8")
    answers = model.generate([image, None], ["a", "the"], max_tokens=3)
    alone = [model.generate(x, q, 3) for x, q in ((image, "a"), (None, "the"))]
    assert answers == alone


@pytest.mark.once
def test_other_files_are_refused(tmp_path):
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"no model at all")
    with pytest.raises(CheckpointError, match="no sound GGUF"):
        llama_decoder(path)
    with pytest.raises(CheckpointError, match="No file"):
        llama_decoder(tmp_path / "none.gguf")
    scaled = tmp_path / "scaled.gguf"
    write(scaled, llama__rope__scaling__type="linear")
    with pytest.raises(CheckpointError, match="scales its positions"):
        llama_decoder(scaled)
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(scaled.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=r"cut\.gguf"):
        llama_decoder(cut)
