"""How many questions about images are answered a second, by what part the time goes.

    KERAS_BACKEND=torch python -m benchmarks.answers --questions 256

The bundled encoder, a projector and a small decoder of its default size, untrained, so
that answers are as long as they may be. Compiling is timed apart.
"""

import argparse
import time

import keras
import numpy as np

from keras_pe import PEImageConverter, PELang, PETokenizer, PEVisionEncoder
from keras_pe.language import QuestionPrompt, SmallDecoder, VisionLanguageModel
from keras_pe.layers import VisionProjector

PRESET = "pe_core_emoji_patch8_64"
QUESTIONS = ("What is this?", "What kind of thing is it?", "Is this a red apple?")


def build() -> VisionLanguageModel:
    """Returns the model, with 16 tokens an image."""
    encoder = PELang.from_core(PEVisionEncoder.from_preset(PRESET))
    tokenizer = PETokenizer(32, 6000)
    return VisionLanguageModel(
        encoder,
        VisionProjector(encoder.hidden_dim, 256, pooling=2),
        SmallDecoder(tokenizer.vocabulary_size),
        QuestionPrompt(tokenizer, image_tokens=16),
        PEImageConverter(64),
    )


def seconds(call: object) -> float:
    """Returns how long a call takes."""
    start = time.perf_counter()
    call()  # type: ignore[operator]
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--max-tokens", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    model = build()
    rng = np.random.default_rng(0)
    images = list(rng.integers(0, 256, (options.questions, 72, 72, 3), "uint8"))
    asked = [QUESTIONS[n % len(QUESTIONS)] for n in range(len(images))]

    def answer(count: int) -> None:
        model.generate(
            images[:count], asked[:count], options.max_tokens, options.batch_size
        )

    first = seconds(lambda: answer(options.batch_size + 1))
    whole = seconds(lambda: answer(options.questions))
    pixels = model.image_converter(images[: options.batch_size])
    model.image_tokens(pixels)
    encoding = seconds(lambda: np.asarray(model.image_tokens(pixels)))
    batches = -(-options.questions // options.batch_size)
    print(
        f"{keras.backend.backend()}: {options.questions / whole:.1f} answers/s "
        f"({options.max_tokens} tokens, batches of {options.batch_size}); encoding "
        f"{100 * encoding * batches / whole:.0f} % of the time; the first batches, "
        f"with compiling, took {first:.1f} s"
    )


if __name__ == "__main__":
    main()
