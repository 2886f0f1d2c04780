"""How fast a small decoder learns and answers questions about images.

    KERAS_BACKEND=torch python -m benchmarks.answers --questions 256

The bundled encoder, a projector and a small decoder of its default size, untrained, so
that answers are as long as they may be. Compiling is timed apart.

A step: 16 samples of one question each, a row a sample; projector and decoder are
trained, the encoder is frozen or trained too. Seconds of the processor over all its
threads: give it one (OMP_NUM_THREADS=1, taskset) to compare.
"""

import argparse
import time

import keras
import numpy as np

from keras_pe import PEImageConverter, PELang, PETokenizer, PEVisionEncoder
from keras_pe.data.packing import packed_row
from keras_pe.language import QuestionPrompt, SmallDecoder, VisionLanguageModel
from keras_pe.layers import VisionProjector
from keras_pe.training.trainers.language_trainer import LanguageAlignmentTrainer

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


def step_seconds(train_encoder: bool, steps: int) -> float:
    """Returns seconds of the processor of a training step of 16 samples, the median."""
    model = build()
    trainer = LanguageAlignmentTrainer(
        model.encoder, model.projector, model.decoder, train_encoder
    )
    trainer.compile(keras.optimizers.AdamW(1e-4))
    asked = [QUESTIONS[n % len(QUESTIONS)] for n in range(16)]
    documents = [model.prompt.document(one, "a slice of pizza") for one in asked]
    length = max(map(len, documents))
    answers = max(int(one.answer.sum()) for one in documents)
    rows = [packed_row([one], length, answers) for one in documents]
    batch = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    batch["images"] = np.zeros((16, 1, 64, 64, 3), "float32")
    taken = []
    for _ in range(steps + 2):
        start = time.process_time()
        trainer.train_on_batch(batch)
        taken.append(time.process_time() - start)
    return float(np.median(taken[2:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=256)
    parser.add_argument("--max-tokens", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=10)
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
    frozen, trained = (step_seconds(own, options.steps) for own in (False, True))
    print(
        f"a training step of 16 samples: {frozen:.2f} s of the processor, "
        f"{trained:.2f} with the encoder trained"
    )


if __name__ == "__main__":
    main()
