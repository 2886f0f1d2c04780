"""Pixel nearest neighbour: what is reached without any learning.

Run ``python -m projects.emoji.data.floor --data DIR``. A class scores by its
nearest training image. Held-out classes have none, so their accuracy is
zero by construction; a learned model can do better only there by language.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from keras_pe.evaluation.intervals import mean_score
from keras_pe.files import write_atomically
from projects.emoji.data.shards import (
    Record,
    load_arrays,
    to_json_bytes,
)

Floats = npt.NDArray[np.float32]
SIDES, NORMS, FRAMINGS = (24, 32), ("L2", "L1"), ("as drawn", "cropped")


def descriptors(images: npt.NDArray[np.uint8], side: int, framing: str) -> Floats:
    """Composites on white, shrinks, and flattens to rows in [0, 1].

    ``cropped`` first cuts every drawing to its visible box and stretches it,
    which removes the vendors' different margins: a stronger floor.
    """
    rows = []
    for pixels in images:
        image = Image.fromarray(pixels, "RGBA")
        box = image.getchannel("A").getbbox() if framing == "cropped" else None
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image)
        small = white.convert("RGB").resize(
            (side, side), Image.Resampling.BOX, box=box or (0, 0, *image.size)
        )
        rows.append(np.asarray(small, dtype=np.float32).ravel() / 255)
    return np.stack(rows)


def distances(queries: Floats, gallery: Floats, norm: str) -> Floats:
    """Returns all pairwise distances (squared for L2, which ranks alike)."""
    if norm == "L2":
        cross = queries @ gallery.T
        squares = (queries**2).sum(1)[:, None] + (gallery**2).sum(1)[None]
        return np.asarray(squares - 2 * cross, dtype=np.float32)
    result = np.empty((len(queries), len(gallery)), dtype=np.float32)
    buffer = np.empty_like(gallery)  # one buffer, since new ones cost most time
    for row, query in zip(result, queries, strict=True):
        np.abs(np.subtract(gallery, query, out=buffer), out=buffer)
        buffer.sum(axis=1, out=row)
    return result


def ranks(
    distance: Floats,
    gallery_classes: Sequence[int],
    truths: Sequence[int],
    classes: Sequence[int],
) -> npt.NDArray[np.int64]:
    """Returns the rank (0 is best) of each query's own class.

    Classes without any image in the gallery come last; ties count against.
    """
    scores = np.full((len(distance), len(classes)), np.inf, dtype=np.float32)
    column = {concept: number for number, concept in enumerate(classes)}
    for index, concept in enumerate(gallery_classes):
        if concept in column:
            place = column[concept]
            np.minimum(scores[:, place], distance[:, index], out=scores[:, place])
    own = scores[np.arange(len(truths)), [column[truth] for truth in truths]]
    return np.asarray((scores <= own[:, None]).sum(1) - 1, dtype=np.int64)


def summarise(places: npt.NDArray[np.int64]) -> dict[str, Any]:
    """Returns top-1 and top-5 in percent with 95 % intervals."""
    report: dict[str, Any] = {"pictures": len(places)}
    for top in (1, 5):
        share = mean_score(places < top)
        value, *ends = (round(100 * x, 2) for x in (share.value, share.low, share.high))
        report |= {f"top{top}": value, f"top{top}_interval": ends}
    return report


def floors(
    gallery: tuple[npt.NDArray[np.uint8], list[Record]],
    queries: tuple[npt.NDArray[np.uint8], list[Record]],
) -> Iterator[dict[str, Any]]:
    """Yields one report for every side, norm and framing.

    The classes are those of the queries, without flags and symbols.
    """
    keep = [i for i, r in enumerate(queries[1]) if not (r["is_flag"] or r["is_symbol"])]
    images, records = queries[0][keep], [queries[1][i] for i in keep]
    truths = [record["concept"] for record in records]
    classes = sorted(set(truths))
    heldout = np.array([record["heldout"] for record in records])
    gallery_classes = [record["concept"] for record in gallery[1]]
    for framing, side in product(FRAMINGS, SIDES):
        query_rows = descriptors(images, side, framing)
        gallery_rows = descriptors(gallery[0], side, framing)
        for norm in NORMS:
            distance = distances(query_rows, gallery_rows, norm)
            places = ranks(distance, gallery_classes, truths, classes)
            report = {"side": side, "norm": norm, "framing": framing}
            report |= {"classes": len(classes), "all": summarise(places)}
            if (~heldout).any():
                report["seen"] = summarise(places[~heldout])
            if heldout.any():
                report["heldout"] = summarise(places[heldout])
            yield report


def _select(
    data: tuple[npt.NDArray[np.uint8], list[Record]], keep: Sequence[bool]
) -> tuple[npt.NDArray[np.uint8], list[Record]]:
    """Filters images and records alike."""
    return data[0][np.array(keep)], [r for r, k in zip(data[1], keep, strict=True) if k]


def measure(directory: Path, left_out: str | None = None) -> dict[str, Any]:
    """Measures the floors of the test vendor and of the photographs.

    The gallery is all that may be trained on: ``train``, and ``extra_train`` if it
    is there.

    With ``left_out``, that vendor's images leave the gallery and are scored
    as ``val_vendor``: the floor of the validation, to compare decisions with.
    """
    splits = ["train"]
    if list(directory.glob("extra_train-[0-9]*.tar")):
        splits.append("extra_train")
    parts = [load_arrays(directory, split) for split in splits]
    gallery = np.concatenate([p[0] for p in parts]), [r for p in parts for r in p[1]]
    queries = {"test": load_arrays(directory, "test")}
    if list(directory.glob("tuxpaint-[0-9]*.tar")):
        queries["photo"] = load_arrays(directory, "tuxpaint")
    if left_out is not None:
        parts = [load_arrays(directory, s) for s in ("train", "val_seen", "heldout")]
        parts = [_select(p, [r["vendor"] == left_out for r in p[1]]) for p in parts]
        records = [record for part in parts for record in part[1]]
        queries["val_vendor"] = np.concatenate([part[0] for part in parts]), records
        gallery = _select(gallery, [r["vendor"] != left_out for r in gallery[1]])
    return {
        "method": "pixel nearest neighbour; a class scores by its nearest image",
        "note": (
            "Held-out classes have no training image: their accuracy is zero "
            "by construction."
        ),
        "gallery": {"split": "+".join(splits), "pictures": len(gallery[1])},
        "left_out_vendor": left_out,
        "floors": {name: list(floors(gallery, q)) for name, q in queries.items()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Parses the command line, measures, and writes the JSON report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--output", type=Path, default=None)
    parser.add_argument("--leave-out", metavar="VENDOR", default=None)
    options = parser.parse_args(arguments)
    report = measure(options.data, options.leave_out)
    suffix = f"-without-{options.leave_out}" if options.leave_out else ""
    output = options.output or options.data / f"floor{suffix}.json"
    write_atomically(output, to_json_bytes(report, indent=1))
    for name, rows in report["floors"].items():
        for row in rows:
            print(name, json.dumps(row))


if __name__ == "__main__":
    main()
