"""Eight frames of a video, or all, by torchcodec, OpenCV and plain PyAV.

Run by `benchmarks/video_decoding.py`, with a Python that has them.
"""

import json
import resource
import sys
import time


def by_opencv(path: str, numbers: list[int]) -> list:
    import cv2

    capture = cv2.VideoCapture(path)
    frames = []
    for number in numbers:
        capture.set(cv2.CAP_PROP_POS_FRAMES, number)
        read, frame = capture.read()
        assert read, number
        frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))
    return frames


def by_torchcodec(path: str, numbers: list[int], seek_mode: str = "exact") -> list:
    from torchcodec.decoders import VideoDecoder

    decoder = VideoDecoder(path, seek_mode=seek_mode, dimension_order="NHWC")
    return list(decoder.get_frames_at(numbers).data.numpy())


def by_torchcodec_approximate(path: str, numbers: list[int]) -> list:
    return by_torchcodec(path, numbers, "approximate")


def by_decoding_all(path: str, numbers: list[int]) -> list:
    import av

    wanted, frames = set(numbers), []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        for number, frame in enumerate(container.decode(stream)):
            if number in wanted:
                frames.append(frame.to_ndarray(format="rgb24"))
    return frames


SIDES = {
    "OpenCV": (by_opencv, "cv2"),
    "torchcodec, exact": (by_torchcodec, "torchcodec.decoders"),
    "torchcodec, approximate": (by_torchcodec_approximate, "torchcodec.decoders"),
    "decoding all": (by_decoding_all, "av"),
}


def main() -> None:
    """Prints what one side took: seconds, memory, the frames' sums."""
    side, path, numbers = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
    read, package = SIDES[side]
    __import__(package)
    wall, cpu = time.perf_counter(), time.process_time()
    frames = read(path, numbers)
    took = {
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "sums": [int(frame.sum()) for frame in frames],
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main()
