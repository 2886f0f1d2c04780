"""Does a patch-to-text map peak on the object that the text names?

Run:      python -m projects.emoji.probing.pointing --probing data/probing \\
              --output runs/probing
Expect:   the table in this folder's README and `pointing.json`; a minute.

Scenes of two to four drawings; each object's own name is the text ("an emoji of dog
face"). The peak must lie in a patch of which at least half belongs to that object.
Names that a scene holds twice are left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np

from keras_pe import PECore, PEImageConverter, PETokenizer
from keras_pe.arrays import check_finite
from keras_pe.models.embedding import embed_texts
from keras_pe.probing.bootstrap import bootstrap_scores, sure_interval
from keras_pe.visualization import pointing_accuracy
from keras_pe.visualization.patch_embeddings import PatchMethod, patch_embeddings
from projects.emoji.data.captions import class_prompts
from projects.emoji.probing.scenes import load_scenes
from projects.emoji.probing.segmentation_set import SegmentationSet

SPLITS = ("test_seen", "test_unseen", "test_rendition", "test_photographs")
BATCH_SIZE = 50  # divides the number of scenes: one compilation
METHODS: tuple[PatchMethod, ...] = get_args(PatchMethod)


def hits(  # maps: (rows, columns)
    maps: list[np.ndarray], masks: list[np.ndarray]
) -> np.ndarray:
    """Returns for each map whether it points at its object, float64 `(maps, 1)`."""
    for number, found in enumerate(maps):
        check_finite(found, f"map {number} of {len(maps)}")
    return np.array(
        [
            [pointing_accuracy(found[None], mask[None])]
            for found, mask in zip(maps, masks, strict=True)
        ]
    )


def name_vectors(
    model: PECore, tokenizer: PETokenizer, names: list[str]
) -> dict[str, np.ndarray]:
    """Returns the mean embedding of each name's prompts, unit length."""
    prompts = class_prompts()
    texts = [prompt.format(name) for name in names for prompt in prompts]
    found = embed_texts(model, tokenizer, texts, 256)
    means = found.reshape(len(names), len(prompts), -1).mean(axis=1)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    return dict(zip(names, means, strict=True))


def all_patches(model: PECore, images: np.ndarray, method: PatchMethod) -> np.ndarray:
    """Returns the patch embeddings of all images, a batch at a time."""
    return np.concatenate(
        [
            patch_embeddings(
                model.vision_encoder, images[start : start + BATCH_SIZE], method
            )
            for start in range(0, len(images), BATCH_SIZE)
        ]
    )


def evaluate(
    model: PECore, tokenizer: PETokenizer, scenes: SegmentationSet
) -> dict[str, Any]:
    """Returns pointing accuracies by method, with 95 % intervals."""
    names = sorted({o.label for objects in scenes.objects for o in objects})
    vectors = name_vectors(model, tokenizer, names)
    images = PEImageConverter(scenes.images.shape[1])(scenes.images)
    maps: dict[str, list[np.ndarray]] = {
        f"{method}{contrast}": [] for method in METHODS for contrast in ("", ", others")
    }
    masks: list[np.ndarray] = []
    patches = {method: all_patches(model, images, method) for method in METHODS}
    for number, objects in enumerate(scenes.objects):
        labels = [o.label for o in objects]
        alone = [k for k, label in enumerate(labels) if labels.count(label) == 1]
        masks += [scenes.object_mask(number, k) for k in alone]
        texts = np.array([vectors[labels[k]] for k in alone])
        for method in METHODS if alone else ():
            # What `text_score_maps` does, for the texts of this image alone.
            found = np.einsum("rcd,td->trc", patches[method][number], texts)
            maps[method] += list(found)
            # What speaks for this object rather than for the scene's others.
            rest = found - found.mean(axis=0) if len(found) > 1 else found
            maps[f"{method}, others"] += list(rest)
    side = maps[METHODS[0]][0].shape[0]
    cell = scenes.images.shape[1] // side
    covers = [
        (m.reshape(side, cell, side, cell).mean(axis=(1, 3)) >= 0.5) for m in masks
    ]
    rows: dict[str, Any] = {
        "objects": len(masks),
        "chance": float(np.mean([cover.mean() for cover in covers])),
    }
    for name, found_maps in maps.items():
        table = hits(found_maps, masks)
        scores = bootstrap_scores(table, lambda means: means[..., 0])
        limits = sure_interval(scores, table[:, 0], (0.0, 1.0))
        rows[name] = (float(table.mean()), *limits)
    return rows


def table(results: dict[str, dict[str, Any]]) -> str:
    """Returns the results as Markdown, per cent."""
    lines = [
        f"| map | {' | '.join(results)} |",
        "|---" * (len(results) + 1) + "|",
        "| objects | " + " | ".join(str(r["objects"]) for r in results.values()) + " |",
        "| chance: a patch at random | "
        + " | ".join(f"{100 * r['chance']:.1f}" for r in results.values())
        + " |",
    ]
    for name in (k for k in next(iter(results.values())) if "," in k or k in METHODS):
        cells = [
            "{:.1f} [{:.1f}, {:.1f}]".format(*(100 * v for v in rows[name]))
            for rows in results.values()
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Measures all splits and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--probing", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--preset", default="pe_core_emoji_patch8_64")
    options = parser.parse_args()
    model = PECore.from_preset(options.preset)
    tokenizer = PETokenizer.from_preset(options.preset)
    tokenizer.on_truncation = "ignore"
    results = {}
    for split in SPLITS:
        results[split] = evaluate(model, tokenizer, load_scenes(options.probing, split))
        print(split, results[split], flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "pointing.json").write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()
