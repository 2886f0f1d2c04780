"""Does video data help video, and images? The paper's second stage in small.

Run:      python -m projects.emoji.video.animations --data data/emoji \\
              --output data/video --cache data/cache
          python -m projects.emoji.video.motions --data data/emoji --output data/video
          python -m projects.video_engine --clips data/video/clips/train \\
              --output runs/video/engine
          KERAS_BACKEND=torch python -m projects.emoji.video.experiment \\
              --data data/emoji --clips data/video --engine runs/video/engine \\
              --output runs/video
Expect:   a JSON a condition and seed, and then `video.md` and `video.json`. Started
          again, it goes on with what is missing.

Conditions differ in the captions alone, and in the controls: captions of other clips,
the first frame alone. All begin with `pe_core_emoji_patch8_64` and take equal steps.
Scored are unseen emoji: finding animated ones by name, telling stated motions, and
still drawings of the vendors that pretraining knew.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.files import write_atomically
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.initial_weights import with_architecture
from keras_pe.training.run.shard_data import ShardData
from keras_pe.training.run.train import RunOptions, pretrain
from projects.emoji.evaluation import evaluate, plain_classes
from projects.emoji.video.conditions import (
    CONDITIONS,
    Condition,
    is_validation,
    read_rows,
    write_condition,
)
from projects.emoji.video.scores import (
    TestClips,
    as_arrays,
    as_lists,
    gain,
    motion_hits,
    name_hits,
)
from recipes.video.configs import CONFIGS

PRESET, SIZE = "pe_core_emoji_patch8_64", 64
BEFORE, FLAT = "before", "fluent-emoji-flat"
EPOCHS_OF_CLIPS, EPOCHS_OF_MOTIONS = 6, 2
VENDORS = ("val_seen", "heldout", "test")  # splits of drawings; "test" is Fluent's


def config_of(condition: Condition, clips: int, rate: float, seed: int) -> RunConfig:
    """Returns a run: AdamW at batches of 32, as LAMB is for batches of thousands."""
    epochs = EPOCHS_OF_CLIPS if condition.data == "clips" else EPOCHS_OF_MOTIONS
    config = dataclasses.replace(
        CONFIGS["finetune"],
        stages=(ResolutionStage(SIZE, epochs * clips),),
        batch_size=32,
        learning_rate=rate,
        warmup_steps=10,
        weight_decay=0.05,
        num_frames=condition.num_frames,
        duplicates="ignore",
        precision="mixed_bfloat16",
        seed=seed,
    )
    return with_architecture(config, PRESET)


@dataclasses.dataclass(frozen=True)
class Tests:
    """All that a model is scored on."""

    clips: TestClips
    motions: TestClips
    data: Path

    def __call__(self, model: PECore) -> dict[str, Any]:
        """Returns hits of clips by task, and scores of drawings by split."""
        tokenizer = PETokenizer.from_preset(PRESET)
        hits = name_hits(model, tokenizer, self.clips)
        hits |= motion_hits(model, tokenizer, self.motions)
        converter = PEImageConverter.from_preset(PRESET)
        images = {}
        for split in VENDORS:
            classes = plain_classes(self.data, "noto" if split != "test" else FLAT)
            found = evaluate(model, tokenizer, converter, self.data, split, classes)
            images[split] = {name: list(score.top1) for name, score in found.items()}
        return {"hits": as_lists(hits), "images": images}


def file_name(condition: str) -> str:
    """Returns what files of a condition are called."""
    return condition.replace(", ", "-").replace(" ", "_")


def run_one(
    name: str, seed: int, rate: float, rows: dict[str, list[Any]], options: Any
) -> PECore:
    """Trains one condition; returns the model."""
    condition = CONDITIONS[name]
    trained = [row for row in rows[condition.data] if not is_validation(row)]
    folder = options.output / f"{file_name(name)}-{seed}"
    shards = write_condition(folder / "pairs", condition, trained, seed)
    config = config_of(condition, len(trained), rate, seed)
    where = RunOptions(
        folder / "run",
        resume=(folder / "run" / "config.json").exists(),
        initial_weights=PRESET,
        save_every=50,
        progress=False,
    )
    return pretrain(config, ShardData(str(shards / "*.tar")), where)


def table(found: dict[str, dict[int, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
    """Returns all scores and gains over the model before, as Markdown and as JSON."""
    before = found[BEFORE][0]
    base = as_arrays(before["hits"])
    content: dict[str, Any] = {}
    lines = ["| trained on | seeds | " + " | ".join(base) + " |"]
    lines.append("|---" * (len(base) + 2) + "|")
    for name, seeds in found.items():
        hits = [as_arrays(one["hits"]) for one in seeds.values()]
        cells, said = [], {}
        for task, right in base.items():
            each = [one[task] for one in hits]
            score = float(np.mean(each))
            said[task] = {"score": score, "of each": [float(np.mean(x)) for x in each]}
            cell = f"{100 * score:.1f}"
            if name != BEFORE:
                mean, low, high = gain(each, [right])
                said[task]["gain"] = [mean, low, high]
                cell += f" ({100 * low:+.1f} to {100 * high:+.1f})"
            cells.append(cell)
        content[name] = {"seeds": sorted(seeds), "clips": said}
        content[name]["images"] = {
            split: {
                kind: [one["images"][split][kind][0] for one in seeds.values()]
                for kind in before["images"][split]
            }
            for split in VENDORS
        }
        lines.append(f"| {name} | {len(seeds)} | {' | '.join(cells)} |")
    kinds = [(s, k) for s in VENDORS for k in before["images"][s]]
    lines += ["", "| trained on | " + " | ".join(f"{s}, {k}" for s, k in kinds) + " |"]
    lines.append("|---" * (len(kinds) + 1) + "|")
    for name in found:
        images = content[name]["images"]
        cells = [f"{100 * float(np.mean(images[s][k])):.1f}" for s, k in kinds]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n", content


def main() -> None:
    """Trains and scores what is missing, and writes the tables."""
    parser = argparse.ArgumentParser(
        prog="python -m projects.emoji.video.experiment",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ("data", "clips", "engine", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--conditions", nargs="+", default=list(CONDITIONS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rate", type=float, default=1e-4, help="learning rate")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    tests = Tests(
        TestClips(options.clips / "clips" / "test", SIZE),
        TestClips(options.clips / "motions" / "test", SIZE),
        options.data,
    )
    rows = {
        "clips": read_rows(options.clips / "clips" / "train", options.engine),
        "motions": read_rows(options.clips / "motions" / "train"),
    }
    for name in [BEFORE, *options.conditions]:
        for seed in [0] if name == BEFORE else options.seeds:
            path = options.output / f"{file_name(name)}-{seed}.json"
            if path.exists():
                continue
            begun = time.monotonic()
            if name == BEFORE:
                model = PECore.from_preset(PRESET)
            else:
                model = run_one(name, seed, options.rate, rows, options)
            said = {"condition": name, "seed": seed, "rate": options.rate}
            said |= tests(model)
            write_atomically(path, json.dumps(said, allow_nan=False) + "\n")
            print(name, seed, f"{time.monotonic() - begun:.0f} s", flush=True)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(options.output.glob("*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        if "condition" in said:
            found.setdefault(said["condition"], {})[said["seed"]] = said
    found = {name: found[name] for name in [BEFORE, *CONDITIONS] if name in found}
    text, content = table(found)
    write_atomically(options.output / "video.md", text)
    write_atomically(
        options.output / "video.json",
        json.dumps(content, indent=1, allow_nan=False) + "\n",
    )
    print(text)


if __name__ == "__main__":
    main()
