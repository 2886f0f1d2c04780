"""Does video data help video, and images? The paper's second stage in small.

Run:      python -m projects.emoji.video.animations --data data/emoji \\
              --output data/video --cache data/cache
          python -m projects.emoji.video.motions --data data/emoji --output data/video
          KERAS_BACKEND=jax python -m projects.video_engine \\
              --clips data/video/clips/train --metadata title tags \\
              --captioner pe_captioner_emoji_patch8_64 --words 20 \\
              --decoder gguf:SmolLM2-135M-Instruct.Q4_1.gguf --output runs/video/engine
          KERAS_BACKEND=torch python -m projects.emoji.video.experiment \\
              --data data/emoji --clips data/video --engine runs/video/engine \\
              --output runs/video
          (before that, with `--choose-rate 1e-5 3e-5 1e-4`: the learning rate)
Expect:   a JSON a condition and seed, and then `video.md` and `video.json`. Started
          again, it goes on with what is missing.

Conditions differ in the captions alone, and in the controls: captions of other clips,
the first frame alone. All begin with `pe_core_emoji_patch8_64` and take equal steps.
Scored are unseen emoji: finding animated ones by name, telling stated motions, and
drawings that do not move, of vendors that pretraining knew and of the one that moves.
The learning rate is chosen by the loss of a tenth of the clips of training, which no
run is trained on.
"""

import argparse
import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.files import write_atomically
from keras_pe.training.resolution import ResolutionStage
from keras_pe.training.run.config import RunConfig
from keras_pe.training.run.initial_weights import with_architecture
from keras_pe.training.run.shard_data import ShardData
from keras_pe.training.run.train import RunOptions, pretrain
from projects.emoji.video.conditions import (
    CONDITIONS,
    SUMMARIES,
    Condition,
    check_summaries,
    is_validation,
    read_rows,
    write_condition,
)
from projects.emoji.video.scores import (
    DRAWINGS,
    TestClips,
    as_lists,
    clip_loss,
    drawing_hits,
    motion_hits,
    name_hits,
)
from projects.emoji.video.tables import BEFORE, as_markdown, hits_of, summary
from recipes.video.configs import CONFIGS

PRESET, SIZE = "pe_core_emoji_patch8_64", 64
RATE = 3e-5
KNOWN = {name: split for name, split in DRAWINGS.items() if name == "known vendors"}
EPOCHS_OF_CLIPS, EPOCHS_OF_MOTIONS = 6, 2


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

    def __call__(self, model: PECore) -> dict[str, str]:
        """Returns hits of clips and drawings by task."""
        tokenizer = PETokenizer.from_preset(PRESET)
        converter = PEImageConverter.from_preset(PRESET)
        hits = name_hits(model, tokenizer, self.clips)
        hits |= motion_hits(model, tokenizer, self.motions)
        return as_lists(hits | drawing_hits(model, tokenizer, converter, self.data))


def file_name(condition: str) -> str:
    """Returns what files of a condition are called."""
    return condition.replace(", ", "-").replace(" ", "_")


def run_one(
    name: str, seed: int, rate: float, rows: dict[str, list[Any]], folder: Path
) -> PECore:
    """Trains one condition into a folder; returns the model."""
    condition = CONDITIONS[name]
    trained = [row for row in rows[condition.data] if not is_validation(row)]
    shards = write_condition(folder / "pairs", condition, trained, seed)
    config = config_of(condition, len(trained), rate, seed)
    where = RunOptions(
        folder / "run",
        resume=(folder / "run" / "config.json").exists(),
        initial_weights=PRESET,
        save_every=50,
        progress=False,
    )
    pretrain(config, ShardData(str(shards / "*.tar")), where)
    # As the model before is scored: in float32, whatever it was trained in.
    return PECore.from_preset(folder / "run" / "preset", dtype="float32")


def choose_rate(rows: dict[str, list[Any]], options: Any) -> None:
    """Trains on titles at each rate; writes losses of clips that are kept back."""
    tokenizer = PETokenizer.from_preset(PRESET)
    converter = PEImageConverter.from_preset(PRESET)
    kept = TestClips(options.clips / "clips" / "train", SIZE, is_validation)
    path = options.output / "rates.json"
    content: dict[str, Any] = {"clips": len(kept.metadata), "rates": {}}
    for rate in [0.0, *options.choose_rate]:
        if rate:
            folder = options.output / "rates" / f"{rate:g}"
            model = run_one("title", 0, rate, rows, folder)
        else:
            model = PECore.from_preset(PRESET)
        known = drawing_hits(model, tokenizer, converter, options.data, KNOWN)
        found = {
            "loss": clip_loss(model, tokenizer, kept),
            **{name: float(right.mean()) for name, right in known.items()},
        }
        content["rates"][f"{rate:g}"] = found
        print(f"{rate:g}", found, flush=True)
        text = json.dumps(content, indent=1, allow_nan=False)
        write_atomically(path, text + "\n")


def run_conditions(rows: dict[str, list[Any]], options: Any) -> None:
    """Trains and scores what is missing."""
    tests = Tests(
        TestClips(options.clips / "clips" / "test", SIZE),
        TestClips(options.clips / "motions" / "test", SIZE),
        options.data,
    )
    wanted = [(BEFORE, 0)]  # it has no seed
    wanted += [(name, seed) for seed in options.seeds for name in options.conditions]
    for name, seed in wanted:
        path = options.output / f"{file_name(name)}-{seed}.json"
        if not path.exists():
            begun = time.monotonic()
            if name == BEFORE:
                model = PECore.from_preset(PRESET)
            else:
                folder = options.output / f"{file_name(name)}-{seed}"
                model = run_one(name, seed, options.rate, rows, folder)
            said = {"condition": name, "seed": seed, "rate": options.rate}
            text = json.dumps({**said, "hits": tests(model)}, allow_nan=False)
            write_atomically(path, text + "\n")
            print(name, seed, f"{time.monotonic() - begun:.0f} s", flush=True)


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
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate")
    parser.add_argument(
        "--choose-rate", type=float, nargs="+", metavar="RATE", help="compares rates"
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = {
        "clips": read_rows(options.clips / "clips" / "train", options.engine),
        "motions": read_rows(options.clips / "motions" / "train"),
    }
    if options.choose_rate:
        choose_rate(rows, options)
        return
    if SUMMARIES in options.conditions:
        check_summaries(options.engine, rows["clips"])
    run_conditions(rows, options)
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(options.output.glob("*.json")):
        said = json.loads(path.read_text(encoding="utf-8"))
        if "condition" in said:
            found.setdefault(said["condition"], {})[said["seed"]] = said
    ordered = {name: found[name] for name in [BEFORE, *CONDITIONS] if name in found}
    content = summary(hits_of(ordered))
    write_atomically(options.output / "video.md", as_markdown(content))
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(options.output / "video.json", text + "\n")
    print(as_markdown(content))


if __name__ == "__main__":
    main()
