"""Whether an image index survives damage, kills and a hundred thousand images.

Run:      KERAS_BACKEND=torch python benchmarks/image_index.py
Expect:   four lines and results/image_index.json; about ten minutes.

damage    1,000 indexes with a flipped bit, a cut or a piece of another file in them are
          opened and searched, each in a process of its own.
kills     200 processes that replace an index without pause get SIGKILL at a random
          instant; then the index is opened and written once more.
resume    a build of 100,000 images is killed five times and started again; its files
          are compared with those of a build that nobody killed.
large     CPU seconds of opening an index of a million vectors, which compares the
          checksums, and of a search in it.
"""

import argparse
import collections
import datetime
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from keras_pe.files import write_directory
from keras_pe.search.index_files import (
    IMAGES,
    INDEX,
    VECTORS,
    DamagedIndexError,
    read_index,
    write_index,
)

FILES = (INDEX, IMAGES, VECTORS)
SIZES = {"hidden_dim": 16, "num_layers": 1, "num_heads": 2, "intermediate_dim": 32}


def write(directory: Path, seed: int = 0, count: int = 200) -> None:
    """Writes an index of random vectors."""
    vectors = np.random.default_rng(seed).normal(size=(count, 32)).astype("float32")
    paths = [f"/images/{number}.png" for number in range(count)]
    with write_directory(directory) as aside:
        write_index(aside, paths, [(1, 2)] * count, [vectors], 32, {"seed": seed})


def answer(directory: Path) -> tuple[str, ...]:
    """Returns what an index finds; 5 best of a fixed query, with their cosines."""
    content = read_index(directory)
    similarities = content.vectors @ np.ones(32, "float32")
    best = np.argsort(-similarities, kind="stable")[:5]
    return tuple(f"{content.paths[row]} {similarities[row]:.6f}" for row in best)


def in_a_process(function: object, *arguments: object) -> str:
    """Returns what a forked process says a call came to, or how it ended."""
    read_end, write_end = os.pipe()
    process = os.fork()
    if not process:
        try:
            said = repr(function(*arguments))  # type: ignore[operator]
        except DamagedIndexError:
            said = "refused"
        except BaseException as error:
            said = f"raw {type(error).__name__}"
        os.write(write_end, said.encode())
        os._exit(0)
    os.close(write_end)
    _, status = os.waitpid(process, 0)
    said = os.read(read_end, 65536).decode()
    os.close(read_end)
    code = os.waitstatus_to_exitcode(status)
    return said if code == 0 else f"signal {-code}"


def damage(folder: Path, count: int) -> dict[str, int]:
    """Counts how damaged indexes are taken."""
    write(folder / "index")
    expected = repr(answer(folder / "index"))
    good = {name: (folder / "index" / name).read_bytes() for name in FILES}
    chance = random.Random(0)
    found: collections.Counter[str] = collections.Counter()
    for _ in range(count):
        name = chance.choice(FILES)
        data = bytearray(good[name])
        kind = chance.choice(("flip", "flip", "cut", "splice"))
        place = chance.randrange(len(data))
        if kind == "flip":
            data[place] ^= 1 << chance.randrange(8)
        elif kind == "cut":
            del data[place:]
        else:
            other = good[chance.choice(FILES)]
            data[place : place + 64] = other[place % len(other) :][:64]
        path = folder / "index" / name
        path.write_bytes(data)
        said = in_a_process(answer, folder / "index")
        if said == expected:
            said = "same answer"
        elif said.startswith("("):
            said = "other answer"
        found[said] += 1
        path.write_bytes(good[name])
    return dict(found)


def kills(folder: Path, count: int) -> dict[str, int]:
    """Counts what is left after kills while an index is replaced."""
    target = folder / "index"
    chance = random.Random(0)
    found: collections.Counter[str] = collections.Counter()
    write(target)
    for number in range(count):
        process = os.fork()
        if not process:
            seed = 0
            while True:
                seed += 1
                write(target, seed)
        time.sleep(chance.uniform(0.0, 0.05))
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        left = len(os.listdir(folder)) > 1
        found["old or new opens" if answer(target) else "lost"] += 1
        found["kills that left something behind"] += left
        write(target, number)
        found["left over after the next write"] += os.listdir(folder) != ["index"]
    return dict(found)


def make_images(folder: Path, count: int) -> None:
    """Writes images of 12 x 12 random pixels, 1,000 a folder."""
    rng = np.random.default_rng(0)
    for number in range(count):
        below = folder / f"{number // 1000:03d}"
        if number % 1000 == 0:
            below.mkdir(parents=True)
        pixels = rng.integers(0, 255, (12, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(below / f"{number % 1000:03d}.bmp")


def build(images: Path, directory: Path) -> None:
    """Builds an index with a small model; prints what it took from a stopped run."""
    import keras

    import keras_pe
    from keras_pe.search import ImageIndex

    keras.utils.set_random_seed(0)
    model = keras_pe.PECore(
        keras_pe.PEVisionEncoder(
            image_size=16, patch_size=8, pooling_heads=2, output_dim=32, **SIZES
        ),
        keras_pe.PETextEncoder(
            vocabulary_size=600, context_length=8, output_dim=32, **SIZES
        ),
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    index = ImageIndex.build(model, images, directory, batch_size=256)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "resumed": index.num_resumed,
                "memory before, MB": before // 1024,
                "peak, MB": after // 1024,
            }
        )
    )


def resume(folder: Path, count: int, times: int = 5) -> dict[str, object]:
    """Builds once in one go and once with kills, and compares."""
    images = folder / "images"
    make_images(images, count)

    def start(target: str) -> "subprocess.Popen[str]":
        command = [sys.executable, __file__, "--build", images, folder / target]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def last_line(process: "subprocess.Popen[str]") -> dict[str, int]:
        return dict(json.loads(process.communicate()[0].splitlines()[-1]))

    few = folder / "few"
    make_images(few, count // 10)
    command = [sys.executable, __file__, "--build", few, folder / "few.index"]
    small = subprocess.run(command, capture_output=True, text=True, check=True)
    whole = last_line(start("whole"))
    parts = folder / ".killed.parts"
    chance = random.Random(0)
    for number in range(1, times + 1):
        process = start("killed")
        wanted = number * count // (times + 1)  # and a random moment after it
        while len(list(parts.glob("part_*"))) * 1024 < wanted:
            time.sleep(0.05)
        time.sleep(chance.uniform(0.0, 0.5))
        process.kill()
        process.wait()
    last = last_line(start("killed"))
    same = all(
        (folder / "whole" / name).read_bytes()
        == (folder / "killed" / name).read_bytes()
        for name in FILES
    )
    return {
        "images": count,
        "kills": times,
        "of the last run, from stopped ones": last["resumed"],
        "equal to the bit": same,
        "left over": [name for name in os.listdir(folder) if name.startswith(".")],
        "one go": whole,
        "a tenth of the images": json.loads(small.stdout.splitlines()[-1]),
        "after the kills": last,
    }


def large(folder: Path, count: int, dim: int = 512) -> dict[str, float]:
    """Returns the least CPU seconds of opening a large index and of searching it."""
    from keras_pe.search import ImageIndex

    rng = np.random.default_rng(0)

    def rows(piece: int = 10_000) -> Iterator[np.ndarray]:
        for start in range(0, count, piece):
            found = rng.normal(size=(min(piece, count - start), dim)).astype("float32")
            yield found / np.linalg.norm(found, axis=1, keepdims=True)

    paths = [f"/images/{number}.png" for number in range(count)]
    with write_directory(folder / "index") as aside:
        write_index(aside, paths, [(1, 2)] * count, rows(), dim, {})
    opened, searched = [], []
    for _ in range(3):
        marks = [time.process_time()]
        index = ImageIndex.open(folder / "index")
        marks.append(time.process_time())
        index.search(np.ones(dim, "float32"))
        marks.append(time.process_time())
        opened.append(marks[1] - marks[0])
        searched.append(marks[2] - marks[1])
    return {
        "vectors": count,
        "numbers of each": dim,
        "CPU seconds, open": round(min(opened), 2),
        "CPU seconds, search": round(min(searched), 2),
    }


def main() -> None:
    """Measures, prints and writes."""
    parts: dict[str, tuple[Callable[..., object], str]] = {
        "damage": (damage, "damaged"),
        "kills": (kills, "kills"),
        "resume": (resume, "images"),
        "large": (large, "large"),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", nargs=2, type=Path)
    parser.add_argument("--damaged", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--parts", nargs="+", choices=parts, default=[*parts])
    options = parser.parse_args()
    if options.build:
        build(*options.build)
        return
    output = Path(__file__).parent / "results" / "image_index.json"
    result = json.loads(output.read_text()) if output.exists() else {}
    result["date"] = datetime.date.today().isoformat()
    for name in options.parts:
        measure, count = parts[name]
        with tempfile.TemporaryDirectory() as folder:
            result[name] = measure(Path(folder), getattr(options, count))
        print(name, result[name], flush=True)
    output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
