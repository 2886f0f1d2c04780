"""Images a second and core: our loader against open_clip's webdataset pipeline.

Run:      python benchmarks/loader.py --peer-python PYTHON --photographs FOLDER \\
              --emoji 'data/emoji/train-*.tar' --cpus 1
Expect:   a table and results/loader.json; about ten minutes.

Both sides read the same shards, cut, resize, jitter, mirror and normalise images in
one worker process, tokenize captions and hand over batches of float32 arrays. Each side
is a program that stays alive; they take turns. What counts is the CPU time of a side's
processes together, from full queues to full queues, so that neither what else runs on
the machine nor what lies prefetched tells. PYTHON has open_clip_torch[training].
"""

import argparse
import datetime
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from keras_pe.preprocessing.media_folders import list_files

HERE = Path(__file__).parent
SIZE, BATCH = 224, 64
PHOTO_SIZE, QUALITY, NUM_PHOTOS, NUM_SHARDS = (500, 375), 90, 1200, 2
SIDES = ("keras_pe", "open_clip", "open_clip, its own transform")
# A side is at rest when its processes used no more CPU than this within this time.
REST_SECONDS, REST_CPU = 1.0, 0.02


# === Shards ===
def write_photo_shards(photographs: list[Path], folder: Path) -> None:
    """Writes JPEGs of random parts of photographs, with captions."""
    rng = np.random.default_rng(0)
    images = [Image.open(path).convert("RGB") for path in photographs]
    samples = []
    for number in range(NUM_PHOTOS):
        image = images[number % len(images)]
        scale = min(
            image.width / PHOTO_SIZE[0], image.height / PHOTO_SIZE[1]
        ) * rng.uniform(0.6, 1.0)
        width, height = (side * scale for side in PHOTO_SIZE)
        left = rng.uniform(0, image.width - width)
        top = rng.uniform(0, image.height - height)
        stream = io.BytesIO()
        image.resize(
            PHOTO_SIZE,
            Image.Resampling.BICUBIC,
            box=(left, top, left + width, top + height),
        ).save(stream, "JPEG", quality=QUALITY)
        caption = f"a photograph of something, number {number}, seen from nearby"
        samples.append({"jpg": stream.getvalue(), "txt": caption.encode()})
    write_shards(samples, folder / "photographs")


def write_emoji_shards(pattern: str, folder: Path) -> None:
    """Writes the drawings of `projects.emoji.data` as PNG beside .txt captions."""
    from keras_pe.data import TarShards

    source = TarShards(pattern, cache_index=False)
    samples = []
    for number in range(min(NUM_PHOTOS, len(source))):
        sample = source[number]
        stream = io.BytesIO()
        Image.open(io.BytesIO(sample["webp"])).convert("RGB").save(stream, "PNG")
        caption = json.loads(sample["json"])["label"]
        samples.append({"png": stream.getvalue(), "txt": caption.encode()})
    write_shards(samples, folder / "emoji")


def write_shards(samples: list[dict[str, bytes]], folder: Path) -> None:
    """Writes samples to tar shards, as many to each."""
    folder.mkdir(parents=True)
    for shard in range(NUM_SHARDS):
        with tarfile.open(folder / f"{shard:03d}.tar", "w") as archive:
            for number in range(shard, len(samples), NUM_SHARDS):
                for extension, content in samples[number].items():
                    info = tarfile.TarInfo(f"{number:06d}.{extension}")
                    info.size = len(content)
                    archive.addfile(info, io.BytesIO(content))


# === Our side ===
def serve(settings: dict) -> None:
    """Reads a number a line, takes so many batches, answers with a line."""
    from keras_pe import PETokenizer
    from keras_pe.data import (
        ShuffledOrder,
        TarShards,
        TrainAugmentation,
        batches,
        image_text_dataset,
    )

    source = TarShards(f"{settings['folder']}/*.tar")
    dataset = image_text_dataset(
        source,
        ShuffledOrder(len(source), settings["batch_size"]),
        transform=TrainAugmentation(
            settings["image_size"], dtype="uint8", draft=settings["draft"]
        ),
        tokenizer=PETokenizer(context_length=77),
    )
    with batches(dataset, num_workers=1) as loader:
        for line in sys.stdin:
            for _ in range(int(line)):
                batch = next(loader)
            images = batch["images"]
            print(json.dumps([images.shape, str(images.dtype)]), flush=True)


# === The comparison ===
class Side:
    """A running program that makes batches."""

    def __init__(self, command: list[str]) -> None:
        self.program = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def take(self, count: int) -> float:
        """Takes batches; returns CPU seconds, from rest to rest."""
        before = self.rest()
        self.program.stdin.write(f"{count}\n")
        self.program.stdin.flush()
        answer = self.program.stdout.readline()
        if not answer:
            raise SystemExit(f"{self.program.args} ended.")
        self.answer = json.loads(answer)
        return self.rest() - before

    def rest(self) -> float:
        """Waits until the queues are full; returns CPU seconds used so far."""
        used = self.cpu()
        while True:
            time.sleep(REST_SECONDS)
            now = self.cpu()
            if now - used <= REST_CPU:
                return now
            used = now

    def cpu(self) -> float:
        """CPU seconds of the program and its processes so far."""
        root = psutil.Process(self.program.pid)
        times = [p.cpu_times() for p in [root, *root.children(recursive=True)]]
        return sum(t.user + t.system for t in times)

    def close(self) -> None:
        """Ends it."""
        self.program.stdin.close()
        self.program.wait(30)


def compare(folder: Path, options: argparse.Namespace) -> dict:
    """Measures all sides on one folder of shards, alternating."""
    settings = {
        "folder": str(folder),
        "image_size": SIZE,
        "batch_size": BATCH,
        "draft": not options.no_draft,
    }
    peer = [
        options.peer_python,
        "-W",
        "ignore",
        str(HERE / "peers" / "open_clip_loader.py"),
    ]
    commands = {
        SIDES[0]: [sys.executable, __file__, "--serve", json.dumps(settings)],
        SIDES[1]: [*peer, json.dumps({**settings, "own_transform": False})],
        SIDES[2]: [*peer, json.dumps({**settings, "own_transform": True})],
    }
    sides = {name: Side(commands[name]) for name in commands}
    rates: dict[str, list[float]] = {name: [] for name in sides}
    try:
        for name, side in sides.items():
            side.take(2)
            print(f"{folder.name}, {name}: {side.answer}", flush=True)
        for _ in range(options.repeats):
            for name, side in sides.items():
                rates[name].append(options.batches * BATCH / side.take(options.batches))
    finally:
        for side in sides.values():
            side.close()
    pairs = [
        [ours / theirs for ours, theirs in zip(rates[SIDES[0]], rates[n], strict=True)]
        for n in SIDES[1:]
    ]
    sizes = [path.stat().st_size for path in folder.glob("*.tar")]
    return {
        "kilobytes_an_image": round(sum(sizes) / NUM_PHOTOS / 1000, 1),
        "images_a_cpu_second": {
            name: [round(rate, 1) for rate in found] for name, found in rates.items()
        },
        "ratio": dict(
            zip(SIDES[1:], (round(statistics.median(p), 3) for p in pairs), strict=True)
        ),
        "range": dict(
            zip(
                SIDES[1:],
                ([round(min(p), 3), round(max(p), 3)] for p in pairs),
                strict=True,
            )
        ),
    }


def main() -> None:
    """Writes shards, compares, prints and saves."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--peer-python", help="Python with torch and open_clip")
    parser.add_argument("--photographs", type=Path, help="folder of photographs")
    parser.add_argument("--emoji", help="pattern of projects.emoji.data shards")
    parser.add_argument("--cpus", default="0", help="cores to run on, as 0,1")
    parser.add_argument("--batches", type=int, default=20, help="batches a turn")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--no-draft", action="store_true", help="decode JPEGs whole")
    parser.add_argument("--output", type=Path, default=HERE / "results/loader.json")
    options = parser.parse_args()
    if options.serve:
        serve(json.loads(options.serve))
        return
    os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "processor": next(
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        "image_size": SIZE,
        "batch_size": BATCH,
        "workers": 1,
        "draft": not options.no_draft,
    }
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if options.photographs:
            paths = list_files(options.photographs)
            write_photo_shards(paths, folder)
        if options.emoji:
            write_emoji_shards(options.emoji, folder)
        for shards in sorted(folder.iterdir()):
            results[shards.name] = compare(shards, options)
            print(json.dumps({shards.name: results[shards.name]}, indent=1))
    options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
