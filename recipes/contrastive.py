"""Contrastive training of a small Perception Encoder on emoji artwork.

Run:      python -m recipes.contrastive --data data/emoji --output runs/emoji
Expect:   the table in recipes/README.md, after about an hour on two CPU cores.

First `python -m recipes.emoji_data.prepare --output data/emoji` makes the data. The
fastest backend here on a CPU is PyTorch in float32: KERAS_BACKEND=torch.
"""

import argparse
import csv
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_pe import PECore, PETextEncoder, PETokenizer, PEVisionEncoder
from keras_pe.evaluation.zero_shot import ZeroShotClassifier
from keras_pe.training.contrastive import ContrastiveTrainer
from recipes.emoji_data.captions import class_prompts
from recipes.emoji_pairs import Augmentation, Drawings, EmojiPairs, render

DEFAULT_AUGMENTATION = Augmentation()


@dataclasses.dataclass(frozen=True)
class Stage:
    """Batches at one resolution; position embeddings are resampled on the fly."""

    image_size: int
    batches: int
    augmentation: Augmentation | None = DEFAULT_AUGMENTATION


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything that decides a run.

    The towers are small because the preset ships inside the package: 16 MB as
    float16. The schedule of resolutions is the paper's idea (section 2.1): most
    samples are seen small, and RoPE carries the positions over.
    """

    image_size: int = 64
    patch_size: int = 8
    vision_dim: int = 192
    vision_layers: int = 6
    vision_heads: int = 4
    pooling_heads: int = 4
    text_dim: int = 192
    text_layers: int = 4
    text_heads: int = 4
    output_dim: int = 192
    vocabulary_size: int = 6000
    context_length: int = 20
    batch_size: int = 256
    learning_rate: float = 1.5e-3
    warmup_batches: int = 200
    weight_decay: float = 0.1
    seed: int = 0
    stages: tuple[Stage, ...] = (
        Stage(32, 1400),
        Stage(48, 500),
        Stage(64, 200, Augmentation(min_side=0.8, max_side=1.0, aspect=1.1)),
    )


CONFIGS = {
    "emoji": Config(),
    "smoke": Config(
        batch_size=32,
        warmup_batches=2,
        stages=(Stage(32, 4), Stage(64, 2)),
    ),
}


def build_model(config: Config) -> PECore:
    """Returns an untrained dual encoder."""
    vision = PEVisionEncoder(
        image_size=config.image_size,
        patch_size=config.patch_size,
        hidden_dim=config.vision_dim,
        num_layers=config.vision_layers,
        num_heads=config.vision_heads,
        intermediate_dim=4 * config.vision_dim,
        output_dim=config.output_dim,
        pooling_heads=config.pooling_heads,
    )
    text = PETextEncoder(
        vocabulary_size=config.vocabulary_size,
        context_length=config.context_length,
        hidden_dim=config.text_dim,
        num_layers=config.text_layers,
        num_heads=config.text_heads,
        intermediate_dim=4 * config.text_dim,
        output_dim=config.output_dim,
    )
    return PECore(vision, text)


class WarmupLinear(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to a peak, then falls linearly to zero.

    A cosine is nearly zero when the last, largest resolution starts; a straight line
    leaves that stage a learning rate at which it can still learn.
    """

    def __init__(self, peak: float, warmup: int, total: int) -> None:
        super().__init__()
        self.peak, self.warmup, self.total = peak, warmup, total

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        rise = (step + 1.0) / self.warmup
        fall = (self.total - step) / max(self.total - self.warmup, 1)
        return self.peak * keras.ops.clip(keras.ops.minimum(rise, fall), 0.0, 1.0)

    def get_config(self) -> dict[str, Any]:
        return {"peak": self.peak, "warmup": self.warmup, "total": self.total}


def build_optimizer(config: Config) -> keras.optimizers.Optimizer:
    """Returns AdamW on one learning-rate curve through all stages."""
    total = sum(stage.batches for stage in config.stages)
    schedule = WarmupLinear(config.learning_rate, config.warmup_batches, total)
    optimizer = keras.optimizers.AdamW(
        schedule,
        weight_decay=config.weight_decay,
        beta_2=0.98,
        epsilon=1e-6,
        global_clipnorm=1.0,
    )
    optimizer.exclude_from_weight_decay(
        var_names=["bias", "gamma", "beta", "scale", "embedding", "probe"]
    )
    return optimizer


class Validation(keras.callbacks.Callback):
    """Logs loss and speed, and now and then the zero-shot score on validation.

    The weights are written at every evaluation, aside and then renamed.
    """

    def __init__(
        self,
        model: PECore,
        tokenizer: PETokenizer,
        data: Path,
        output: Path,
        every: int,
        batch_size: int,
    ) -> None:
        super().__init__()
        self.core, self.tokenizer = model, tokenizer
        self.output, self.every = output, every
        self.batch_size = batch_size
        self.batches, self.losses = 0, [0.0]
        self.start = time.perf_counter()
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
        self.log = (output / "log.csv").open("a", newline="")
        self.rows = csv.writer(self.log)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.batches += 1
        self.losses.append(float((logs or {}).get("loss", np.nan)))
        if self.batches % self.every == 0:
            self.evaluate()

    def evaluate(self) -> None:
        """Scores the model on validation, logs, and saves the weights."""
        classifier = ZeroShotClassifier(
            self.core,
            self.tokenizer,
            [c["label"] for c in self.classes],
            class_prompts(),
            batch_size=128,
        )
        order = np.argsort(-classifier.similarities(self.images), axis=1)
        hits = order == self.labels[:, None]
        top1, top5 = hits[:, 0].mean(), hits[:, :5].any(axis=1).mean()
        seconds = time.perf_counter() - self.start
        samples = self.batches * self.batch_size
        row = (
            self.batches,
            samples,
            round(seconds),
            round(self.losses[-1], 4),
            round(float(top1), 4),
            round(float(top5), 4),
        )
        self.rows.writerow(row)
        self.log.flush()
        print(
            f"\nbatch {row[0]}, {samples} samples, {seconds:.0f} s: loss {row[3]}, "
            f"validation top-1 {top1:.1%}, top-5 {top5:.1%}",
            flush=True,
        )
        aside = self.output / "aside.weights.h5"
        self.core.save_weights(aside)
        aside.replace(self.output / "model.weights.h5")


def train(
    config: Config,
    data: Path,
    output: Path,
    leave_out: tuple[str, ...] = (),
    evaluate_every: int = 250,
    verbose: int = 1,
    initial_weights: Path | None = None,
) -> PECore:
    """Trains a model and leaves its weights and log in a directory.

    Args:
        config: the run.
        data: output of `recipes.emoji_data.prepare`.
        output: where weights, log and configuration go.
        leave_out: vendors to train without, for validation by vendor.
        evaluate_every: batches between evaluations.
        verbose: 1 for a progress bar, 2 for a line a stage, 0 for silence.
        initial_weights: weights to start from; None starts from scratch.

    Returns:
        The trained model.
    """
    keras.utils.set_random_seed(config.seed)
    output.mkdir(parents=True, exist_ok=True)
    settings = {**dataclasses.asdict(config), "leave_out": leave_out}
    (output / "config.json").write_text(json.dumps(settings, indent=2))
    tokenizer = PETokenizer(
        context_length=config.context_length,
        vocabulary_size=config.vocabulary_size,
        on_truncation="ignore",
    )
    model = build_model(config)
    if initial_weights is not None:
        model.load_weights(initial_weights)
    trainer = ContrastiveTrainer(model)
    trainer.compile(optimizer=build_optimizer(config))
    validation = Validation(
        model, tokenizer, data, output, evaluate_every, config.batch_size
    )
    drawings = Drawings(data, ["train"], leave_out)
    first_batch = 0
    for stage in config.stages:
        pairs = EmojiPairs(
            data,
            tokenizer,
            config.batch_size,
            first_batch,
            stage.batches,
            stage.image_size,
            config.seed,
            augmentation=stage.augmentation,
            drawings=drawings,
        )
        trainer.fit(pairs, shuffle=False, verbose=verbose, callbacks=[validation])
        first_batch += stage.batches
    validation.evaluate()
    return model


def main() -> None:
    """Reads the command line and trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--config", choices=sorted(CONFIGS), default="emoji")
    parser.add_argument("--leave-out", nargs="*", default=[], metavar="VENDOR")
    parser.add_argument("--initial-weights", type=Path)
    parser.add_argument("--evaluate-every", type=int, default=250)
    parser.add_argument("--verbose", type=int, default=1)
    arguments = parser.parse_args()
    train(
        CONFIGS[arguments.config],
        arguments.data,
        arguments.output,
        tuple(arguments.leave_out),
        arguments.evaluate_every,
        arguments.verbose,
        arguments.initial_weights,
    )


if __name__ == "__main__":
    main()
