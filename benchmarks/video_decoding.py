"""Eight frames of a long video: what they cost, and whether memory depends on length.

Run:      python benchmarks/video_decoding.py --peer-python PYTHON
Expect:   a table and results/video_decoding.json; a quarter of an hour on one core.

The file is made here: a pattern that moves on noise, 1920 x 1080 at 25 frames a second,
H.264 with B frames and a key frame every 250, of which 20 seconds are encoded and then
repeated. All sides take the same eight frames of ten minutes as RGB at full size, and
take turns; what counts is CPU time, so that what else runs does not tell. PYTHON has
torchcodec and opencv-python-headless; torchcodec needs FFmpeg's libraries, for which
those of PyAV's wheel do, under their plain names in a folder on LD_LIBRARY_PATH.
"""

import argparse
import datetime
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "video_decoding.json"
WIDTH, HEIGHT, RATE, KEYS_EVERY, PIECE = 1920, 1080, 25, 250, 500
OURS = ("keras_pe", "keras_pe, bytes", "keras_pe, to 224")
PEERS = ("OpenCV", "torchcodec, exact", "torchcodec, approximate")


# === The file ===
def encode_piece(path: Path, frames: int = PIECE) -> None:
    """Writes twenty seconds, at 6 Mbit a second."""
    import av

    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    pattern = ((np.sin(x / 60) + np.cos(y / 45)) * 50 + 110).astype("uint8")
    noise = rng.integers(0, 48, (2 * HEIGHT, 2 * WIDTH), "uint8")
    options = {
        "preset": "veryfast",
        "x264-params": f"keyint={KEYS_EVERY}:min-keyint={KEYS_EVERY}:scenecut=0",
        "b": "6000000",
        "maxrate": "8000000",
        "bufsize": "12000000",
    }
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, "uint8")
        for number in range(frames):
            top, left = rng.integers(0, HEIGHT), rng.integers(0, WIDTH)
            moved = np.roll(pattern, (3 * number, 5 * number), (0, 1))
            noisy = moved + noise[top : top + HEIGHT, left : left + WIDTH]
            planes[:HEIGHT] = noisy
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def repeat(piece: Path, path: Path, seconds: int) -> None:
    """Writes the packets of a file again and again, until there are enough."""
    import av

    with av.open(str(piece)) as source, av.open(str(path), "w") as output:
        stream = source.streams.video[0]
        copied = output.add_stream_from_template(stream)
        packets = [packet for packet in source.demux(stream) if packet.size]
        base, step = packets[0].time_base, packets[0].duration or 1
        kept = [(bytes(p), p.pts or 0, p.dts or 0, p.is_keyframe) for p in packets]
        for number in range(seconds * RATE // len(kept)):
            later = number * step * len(kept)
            for content, pts, dts, key in kept:
                packet = av.Packet(content)
                packet.pts, packet.dts = pts + later, dts + later
                packet.time_base, packet.duration = base, step
                packet.is_keyframe, packet.stream = key, copied
                output.mux(packet)


# === Our side ===
def ours(side: str, path: str, numbers: list[int]) -> dict:
    """Takes frames; returns what it took."""
    from keras_pe.preprocessing import PEVideoConverter
    from keras_pe.preprocessing.video_source import open_frames

    source = Path(path).read_bytes() if side.endswith("bytes") else path
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wall, cpu = time.perf_counter(), time.process_time()
    opened, sums = 0.0, []
    if side.endswith("224"):
        PEVideoConverter(224, len(numbers))(path)
    else:
        frames = open_frames(source, "video", 10**8, 10**6)
        opened = time.process_time() - cpu
        found = [np.asarray(frame) for _, frame in frames.read(numbers)]
        sums = [int(frame.sum()) for frame in found]
    return {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "opening_cpu_s": opened,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "peak_before_mb": before,
        "sums": sums,
    }


# === The comparison ===
def take(command: list[str], side: str, path: Path, numbers: list[int]) -> dict:
    """Runs a side in a process of its own."""
    given = [*command, side, str(path), json.dumps(numbers)]
    done = subprocess.run(given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def spread(minutes: int) -> list[int]:
    """Returns eight frames, as `frame_indices` chooses them."""
    return [i * (minutes * 60 * RATE - 1) // 7 for i in range(8)]


def compare(path: Path, peer_python: str | None, rounds: int) -> dict:
    """Returns seconds of each side, the median of several rounds."""
    own = [sys.executable, str(Path(__file__))]
    peer = [peer_python or sys.executable, str(HERE / "peers" / "video_readers.py")]
    sides = [(own, side) for side in OURS]
    sides += [(peer, side) for side in PEERS] if peer_python else []
    took: dict[str, list[dict]] = {side: [] for _, side in sides}
    for _ in range(rounds):
        for command, side in sides:
            took[side].append(take(command, side, path, spread(10)))
    all_frames = take(peer, "decoding all", path, spread(10))
    took["decoding all"] = [all_frames]
    for side in ("keras_pe", "keras_pe, bytes", *(PEERS if peer_python else ())):
        if took[side][0]["sums"] != all_frames["sums"]:
            print(f"{side} gives other frames than decoding all.")
    return {
        side: {
            key: round(statistics.median(run[key] for run in runs), 3)
            for key in runs[0]
            if key != "sums"
        }
        | {"same_frames": runs[0]["sums"] == all_frames["sums"] or None}
        for side, runs in took.items()
    }


def memory(piece: Path, folder: Path) -> dict[str, dict]:
    """Returns the peak of our side by the length of the video."""
    found = {}
    for minutes in (1, 60):
        path = folder / f"{minutes}.mp4"
        repeat(piece, path, minutes * 60)
        own = [sys.executable, str(Path(__file__))]
        took = take(own, "keras_pe, to 224", path, spread(minutes))
        size = round(path.stat().st_size / 1e6)
        found[f"{minutes} min"] = {
            "file_mb": size,
            "peak_mb": round(took["peak_mb"]),
            "above_start_mb": round(took["peak_mb"] - took["peak_before_mb"], 1),
        }
        path.unlink()
    return found


def main() -> None:
    """Measures and writes the results."""
    if sys.argv[1:2] and sys.argv[1] in OURS:
        took = ours(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
        print(json.dumps(took))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer-python", help="a Python with the other readers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        piece, path = folder / "piece.mp4", folder / "10.mp4"
        encode_piece(piece)
        repeat(piece, path, 600)
        size = round(path.stat().st_size / 1e6)
        sides = compare(path, arguments.peer_python, arguments.rounds)
        path.unlink()
        by_length = memory(piece, folder)
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} core",
        "file": f"10 min, {WIDTH} x {HEIGHT}, H.264, key frame every {KEYS_EVERY}, "
        f"{size} MB",
        "eight_frames": sides,
        "memory": by_length,
    }
    arguments.output.write_text(json.dumps(result, indent=2) + "\n")
    everything = sides["decoding all"]["cpu_s"]
    for side, took in sides.items():
        share = took["cpu_s"] / everything
        print(f"{side:24} {took['cpu_s']:8.2f} s CPU  {share:6.1%} of all", flush=True)
    print(json.dumps(by_length))


if __name__ == "__main__":
    main()
