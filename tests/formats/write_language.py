"""Writes a preset of a vision language model, for later versions to read.

Run:      python -m tests.formats.write_language language-v1.zip
Expect:   the preset, and what its parts give on the images of `write.py`; 20 KB.

A new file is added when the format changes; those that are there stay as they are.
"""

import argparse
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np
from keras import ops

from keras_pe import PEImageConverter, PELang, PETokenizer, PEVisionEncoder
from keras_pe.language import QuestionPrompt, SmallDecoder, VisionLanguageModel
from keras_pe.layers import VisionProjector
from tests.formats.write import inputs
from tests.small_models import perturb

QUESTION = "what?"
MAX_TOKENS = 5


def build() -> VisionLanguageModel:
    """Returns a model of a few thousand weights."""
    keras.utils.set_random_seed(5)
    core = PEVisionEncoder(
        image_size=16, patch_size=4, hidden_dim=8, num_layers=2, num_heads=2,
        intermediate_dim=16,
    )  # fmt: skip
    return VisionLanguageModel(
        perturb(PELang.from_core(core, layers=1)),
        perturb(VisionProjector(8, 8, 2, "shuffle", norm=True), 1),
        perturb(SmallDecoder(520, 8, 1, 2, max_length=32), 2),
        QuestionPrompt(PETokenizer(16, 520), 4, spell_answers=True),
        PEImageConverter(16),
    )


def outputs(model: VisionLanguageModel) -> dict[str, np.ndarray]:
    """Returns what the parts of a model give."""
    tokens = model.image_tokens(inputs())
    logits = model.decoder.logits(model.decoder.run(tokens))
    answers = model.answer(inputs(), QUESTION, MAX_TOKENS)
    return {
        "tokens": np.array(ops.convert_to_numpy(tokens)),
        "logits": np.array(ops.convert_to_numpy(logits))[:, -1],
        "question": model.prompt.question(QUESTION).token_ids,
        "answer": model.prompt.answer(QUESTION),
        "answers": np.array(answers),
    }


def main() -> None:
    """Writes a zip."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("output", type=Path, help="the zip, which must not be there")
    output = parser.parse_args().output
    with TemporaryDirectory() as name:
        folder = Path(name)
        build().save_to_preset(folder / "preset", dtype="float16")
        model = VisionLanguageModel.from_preset(folder / "preset")
        np.savez(folder / "outputs.npz", **outputs(model))
        with zipfile.ZipFile(output, "x", zipfile.ZIP_DEFLATED, True, 9) as file:
            for path in sorted(folder.rglob("*")):
                file.write(path, path.relative_to(folder))


if __name__ == "__main__":
    main()
