"""Whether odd and damaged videos are read right or refused by name, in time.

Run:      python -m benchmarks.odd_videos
Expect:   "N files in M containers: no hang, no raw error, counts right", a row for each
          container and kind in results/odd_videos.json; some minutes on one core. It
          exits with 1, and says what was wrong with which file, if anything was;
          --keep FOLDER keeps such files.

The files are made here, with PyAV, of frames cut out of two photographs. Each is read
in a process of its own, whose memory is limited, evenly by number and by time, alone
and between two sound files; then all together in one call, here and in two processes.
"""

import argparse
import datetime
import functools
import json
import os
import platform
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "torch")  # a forked JAX may hang
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("SVT_LOG", "0")


from benchmarks.odd_video_parts.damage import damaged, strangers
from benchmarks.odd_video_parts.encoding import CONTAINERS, encode, photographed
from benchmarks.odd_video_parts.judging import (
    MARGIN,
    ROOM_MB,
    RULES,
    SIDE,
    SLOW_KIND,
    TAKEN,
    Verdict,
    converters,
    hashed,
    in_child,
    judge,
)
from benchmarks.odd_video_parts.whole import REFUSED, Made, whole

RESULTS = Path(__file__).parent / "results" / "odd_videos.json"
SLOW = 0.05  # seconds that may be taken of a video that needs more


# === The files ===
def make_all(folder: Path, seed: int) -> Iterator[tuple[str, Made, Path]]:
    """Yields every file with its container, as it is written."""
    for name, box in CONTAINERS.items():
        for number, made in enumerate((*whole(box), *damaged(box, seed))):
            path = folder / f"{number:03}-{made.kind.replace(' ', '-')}.{name}"
            path.write_bytes(made.content)
            yield name, made, path
    yield from strangers(folder, seed)
    for name in ("mp4", "mkv", "avi", "ts", "flv"):
        path = folder / f"over-the-limit.{name}"
        path.write_bytes(long_video(name))
        made = Made(SLOW_KIND, b"", REFUSED, max_seconds=SLOW)
        yield name, made, path


@functools.lru_cache
def long_video(name: str) -> bytes:
    """Returns a video that takes longer to decode."""
    frames = photographed(60, 180, 240)
    box = CONTAINERS[name]
    many = [frames[min(i % 118, 118 - i % 118)] for i in range(3000)]
    fast = {"preset": "ultrafast"} if box.codec.name == "libx264" else {}
    return encode(box, many, g="600", keyint_min="600", **fast)


# === All together ===
def together(paths: list[Path], workers: int) -> dict[str, Any]:
    """Reads all files in one call for each rule; says which were left out."""
    found = {}
    for rule, converter in converters("skip", 5.0).items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = converter([str(path) for path in paths], workers=workers)
        report = converter.last_report
        skipped = {item.index: item.reason for item in report.skipped}
        found[rule] = report.num_images, skipped, [hashed(row) for row in rows]
    return found


def compared(
    found: dict[str, Any], verdicts: list[Verdict], paths: list[Path]
) -> list[str]:
    """Returns where one call for all files differs from a call for each."""
    problems = []
    for rule, (count, skipped, hashes) in found.items():
        bad = {
            number: verdict.outcomes[rule]
            for number, verdict in enumerate(verdicts)
            if verdict.outcomes[rule] != "read"
        }
        if count != len(paths) or skipped != bad:
            names = [str(paths[i]) for i in sorted(skipped.keys() ^ bad.keys())]
            problems.append(
                f"{rule}: {len(skipped)} of {count} skipped; expected {len(bad)} of "
                f"{len(paths)}; they differ in {names[:5]}"
            )
        right = [v.hashes[rule] for v in verdicts if rule in v.hashes]
        if hashes != right:
            problems.append(f"{rule}: other frames than each file alone")
    return problems


# === The table ===
def rows_of(
    files: list[tuple[str, Made, Path]], verdicts: list[Verdict]
) -> list[dict[str, Any]]:
    """Returns a row for each container and kind."""
    groups: dict[tuple[str, str], list[Verdict]] = defaultdict(list)
    for (name, made, _), verdict in zip(files, verdicts, strict=True):
        groups[name, made.kind].append(verdict)
    rows = []
    for (name, kind), some in sorted(groups.items()):
        outcomes = Counter(verdict.outcomes.get("benchmark") for verdict in some)
        by_time = Counter(verdict.outcomes.get("time") for verdict in some)
        rows.append(
            {
                "container": name,
                "kind": kind,
                "count": len(some),
                "read": outcomes["read"],
                "refused": outcomes.total() - outcomes["read"],
                "read_by_time": by_time["read"],
                "slowest_s": round(max(verdict.seconds for verdict in some), 2),
                "peak_mb": round(max(verdict.peak_mb for verdict in some)),
                "wrong": sum(bool(verdict.problems) for verdict in some),
            }
        )
    return rows


def write(path: Path, head: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Writes the results, one row a line."""
    lines = ",\n".join(f"  {json.dumps(row)}" for row in rows)
    start = json.dumps(head, indent=1)[:-2]
    path.write_text(f'{start},\n "rows": [\n{lines}\n ]\n}}\n')


def main() -> int:
    """Makes, reads, compares and writes; returns 1 if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="files whose names contain this; no results")
    parser.add_argument("--keep", type=Path, help="where files go that show a fault")
    parser.add_argument("--output", type=Path, default=RESULTS)
    settings = parser.parse_args()
    began, started = time.process_time(), time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [
            file
            for file in make_all(folder, settings.seed)
            if settings.only is None or settings.only in file[2].name
        ]
        good = folder / "good.mkv"
        good.write_bytes(encode(CONTAINERS["mkv"], photographed(10)))
        right = {
            rule: hashed(converter(str(good))[0])
            for rule, converter in converters("raise", 60.0).items()
        }
        verdicts, wrong = [], []
        for _, made, path in files:
            work = functools.partial(judge, made, path, good, right)
            # Four calls, each with its limit, two of them with two sound files more.
            seconds = 4 * (made.max_seconds + MARGIN) + 60
            found, peak, problems = in_child(work, seconds)
            verdict = found or Verdict(dict.fromkeys(RULES, "no answer"))
            verdict.peak_mb = peak
            verdict.problems += problems
            verdicts.append(verdict)
            if verdict.problems:
                wrong.append(f"{path.name}: {'; '.join(verdict.problems)}")
                print(wrong[-1], flush=True)
                if settings.keep and path.is_file():
                    settings.keep.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, settings.keep)
        ordinary = [i for i, (_, made, _) in enumerate(files) if made.max_seconds > 1]
        paths = [files[i][2] for i in ordinary]
        alone = [verdicts[i] for i in ordinary]
        batches = {}
        for workers in (0, 2):
            work = functools.partial(together, paths, workers)
            found, peak, problems = in_child(work, 600.0, 8 * ROOM_MB)
            problems += compared(found or {}, alone, paths)
            wrong += [f"all at once, {workers} workers: {text}" for text in problems]
            batches[f"{workers} workers"] = {
                rule: {"files": count, "skipped": len(skipped), "read": len(hashes)}
                for rule, (count, skipped, hashes) in (found or {}).items()
            } | {"peak_mb": round(peak)}
    rows = rows_of(files, verdicts)
    containers = {name for name, _, _ in files} & CONTAINERS.keys()
    head = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, busy",
        "settings": {
            "seed": settings.seed,
            "output": f"{TAKEN} frames of {SIDE} x {SIDE}",
            "margin_s": MARGIN,
            "room_mb": ROOM_MB,
        },
        "files": len(files),
        "containers": len(containers),
        "read": sum(row["read"] for row in rows),
        "refused": sum(row["refused"] for row in rows),
        "wrong": len(wrong),
        "slowest_s": max(row["slowest_s"] for row in rows),
        "peak_mb": max(row["peak_mb"] for row in rows),
        "all_at_once": batches,
        "wall_s": round(time.monotonic() - started),
        "reasons": dict(Counter(v.outcomes["benchmark"] for v in verdicts)),
    }
    if settings.only is None:
        write(settings.output, head, rows)
    for text in wrong:
        print(text)
    said = "no hang, no raw error, counts right" if not wrong else f"{len(wrong)} wrong"
    print(
        f"{len(files)} files in {len(containers)} containers: {said}. "
        f"{head['read']} read, {head['refused']} refused; slowest {head['slowest_s']} "
        f"s, at most {head['peak_mb']} MB; {time.process_time() - began:.0f} s here."
    )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
