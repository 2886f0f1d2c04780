"""The zero-shot score on the validation drawings, for use during training."""

import json
from pathlib import Path

import numpy as np

from keras_pe import PECore, PETokenizer
from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from projects.emoji.data.captions import class_prompts
from projects.emoji.pairs import Drawings, render


class ValidationScores:
    """Scores a model on the validation split, among all seen plain concepts.

    Args:
        data: output of `projects.emoji.data.prepare`.
        model: the model that trains.
        tokenizer: its tokenizer.
        batch_size: images at once.
    """

    def __init__(
        self, data: Path, model: PECore, tokenizer: PETokenizer, batch_size: int = 128
    ) -> None:
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        concepts = json.loads((data / "concepts.json").read_text())
        self.classes = [
            c for c in concepts if not (c["is_flag"] or c["is_symbol"] or c["heldout"])
        ]
        place = {c["id"]: i for i, c in enumerate(self.classes)}
        drawings = Drawings(data, ["val_seen"])
        rows = [i for i, r in enumerate(drawings.records) if r["concept"] in place]
        self.labels = np.array([place[drawings.records[i]["concept"]] for i in rows])
        side = model.vision_encoder.image_size
        white = np.full(3, 255.0, "float32")
        self.images = np.stack(
            [render(drawings.cropped[i], side, white) / 127.5 - 1.0 for i in rows]
        )

    def __call__(self) -> dict[str, float]:
        """Returns top-1 and top-5 at the model's own image size."""
        classifier = ZeroShotClassifier(
            self.model,
            self.tokenizer,
            [c["label"] for c in self.classes],
            class_prompts(),
            batch_size=self.batch_size,
        )
        order = np.argsort(-classifier.similarities(self.images), axis=1)[:, :5]
        hits = order == self.labels[:, None]
        return {
            "top1": float(hits[:, 0].mean()),
            "top5": float(hits.any(axis=1).mean()),
        }
