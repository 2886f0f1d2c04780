# extras: probe,notebooks
# backends: torch
# %% [markdown]
# # Which layer does my task need?
#
# An encoder is a stack of blocks, and by habit one takes what comes out at the end. The finding of the Perception Encoder
# paper is that the best vector for a task is often not there: the last blocks turn what the model has seen into what it
# was trained to say. So measure. `keras_pe.probing.sweep` runs the encoder once over your pictures, fits a small probe to
# each layer, and says which one your task needs, and how sure that is.
#
# Three questions about pictures, one encoder:
#
# 1. *What* is it? Handwritten digits.
# 2. *Where* is it? A drawing somewhere on a canvas.
# 3. *Which point is the same*? A drawing in two scenes.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB

# %%
import keras_pe
from keras_pe.probing import PointPairs, sweep

encoder = keras_pe.PEVisionEncoder.from_preset(PRESET)
print(f"{encoder.num_layers} blocks, {encoder.count_params():,} parameters")

# %% [markdown]
# ## What: handwritten digits
# The `"ridge"` probe is linear, and has a closed formula: no learning rate can be wrong. Three of five pictures teach,
# one of five chooses (the probe's regulariser, and the layer), and the last fifth gives the scores. Layer 0 is what goes
# into the first block: patches of pixels, before anything was seen in them.

# %%
import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
pixels = np.clip(digits.images[:500] * 16, 0, 255).astype("uint8")
pixels = np.repeat(pixels.repeat(8, 1).repeat(8, 2)[..., None], 3, axis=-1)
labels = digits.target[:500]

what = sweep(encoder, (list(pixels), labels), probe="ridge", progress=False)
what

# %% [markdown]
# Read the last line first. The interval of the gain compares both layers on the same test pictures, which is sharper than
# to compare two intervals. If it says that the gain may be chance, it may be.
#
# ## Where: a drawing on a canvas
# A drawing is pasted somewhere on a plain canvas, and the probe has to tell how far from the left. The score is R2, the
# share of the variance that is explained: 1 is perfect, 0 is a constant guess.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

side = encoder.image_size
rng = np.random.default_rng(0)
drawings = [Image.open(path) for path in sorted(Path("drawings").glob("*/*.png"))]


def paste(canvas, drawing, size, left, top):
    """Lays a drawing on a canvas, with its transparency."""
    small = drawing.convert("RGBA").resize((size, size), Image.Resampling.LANCZOS)
    canvas.paste(small, (left, top), small)


scenes, places = [], []
for _ in range(400):
    canvas = Image.new("RGB", (side, side), tuple(rng.integers(120, 256, 3).tolist()))
    size = int(rng.integers(side // 4, side // 2))
    left, top = (int(v) for v in rng.integers(0, side - size, 2))
    paste(canvas, drawings[rng.integers(len(drawings))], size, left, top)
    scenes.append(np.asarray(canvas))
    places.append((left + size / 2) / side)

figure, axes = plt.subplots(1, 8, figsize=(10, 1.6))
for axis, scene, place in zip(axes, scenes, places, strict=False):
    axis.imshow(scene)
    axis.axvline(place * side, color="white", linestyle=":")
    axis.set_title(f"{place:.2f}", fontsize=9)
    axis.axis("off")
plt.show()

# %%
where = sweep(encoder, (scenes, places), probe="ridge_regression", progress=False)
where

# %% [markdown]
# The probe reads the *average* of all patches. That a drawing's place can be read from an average at all means that
# patches tell where they are.
#
# ## Which point is the same?
# The same drawing in two scenes, of another size and with other drawings around it. For points of the first, the most
# similar patch of the second is looked up. Nothing is trained: it is right if it is nearer than a tenth of the picture.
# The pictures are twice as large as the encoder's own size: a finer grid of patches.

# %%
large = 2 * side


def scene_with(drawing, rng):
    """Returns a scene that shows a drawing and two others, and where the drawing is."""
    canvas = Image.new("RGB", (large, large), tuple(rng.integers(120, 256, 3).tolist()))
    for other in rng.integers(len(drawings), size=2):
        left, top = (int(v) for v in rng.integers(0, large - large // 4, 2))
        paste(canvas, drawings[other], large // 4, left, top)
    size = int(rng.integers(large // 3, int(0.6 * large)))
    left, top = (int(v) for v in rng.integers(0, large - size, 2))
    paste(canvas, drawing, size, left, top)
    return np.asarray(canvas, "float32") / 127.5 - 1.0, np.array([top, left]), size


pairs = []
for number in range(60):
    drawing = drawings[rng.integers(len(drawings))].convert("RGBA")
    shape = np.asarray(drawing.getchannel("A")) > 200
    rows, columns = np.nonzero(shape)
    chosen = rng.choice(len(rows), 12, replace=False)
    inside = (np.stack([rows, columns], axis=1)[chosen] + 0.5) / shape.shape  # 0 to 1
    (first, a, m), (second, b, n) = (scene_with(drawing, rng) for _ in range(2))
    points = np.stack([a + inside * m, b + inside * n], axis=1)  # (points, 2, 2)
    pairs.append(PointPairs(np.stack([first, second]), points, str(number)))

figure, axes = plt.subplots(1, 6, figsize=(10, 1.9))
for place, axis in enumerate(axes):
    pair = pairs[place // 2]
    axis.imshow(pair.images[place % 2] / 2 + 0.5)
    rows, columns = pair.points[:5, place % 2].T
    axis.scatter(columns, rows, c=range(5), cmap="tab10", edgecolors="white", s=35)
    axis.axis("off")
figure.tight_layout()
plt.show()

# %%
same = sweep(encoder, pairs, probe="correspondence", progress=False)
same

# %% [markdown]
# ## Side by side

# %%
results = {"what": what, "where": where, "the same point": same}
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2))
for axis, (task, result) in zip(axes, results.items(), strict=True):
    layers = [row.layer for row in result.layers]
    axis.plot(layers, [row.score for row in result.layers], "o-")
    lows, highs = zip(*((row.low, row.high) for row in result.layers), strict=True)
    axis.fill_between(layers, lows, highs, alpha=0.15)
    axis.axhline(result.baseline, color="grey", linestyle=":")
    axis.set(title=f"{task} ({result.metric})", xlabel="layer")
figure.tight_layout()
plt.show()

# %%
print("task            layer 0   best of the curve   last layer")
for task, result in results.items():
    best = max(result.layers, key=lambda row: row.score)
    first, last = result.layers[0], result.layers[-1]
    print(
        f"{task:14} {first.score:8.3f}   layer {best.layer}: {best.score:.3f}"
        f"      layer {last.layer}: {last.score:.3f}"
    )

# %% [markdown]
# Bands are 95 % intervals, dotted is a guess. Each task has a curve of its own. The last blocks of this small encoder cost
# little; larger ones have more to lose: of the paper's largest, frozen under a detector, layer 38 gives a box AP of 43.2
# on COCO, and the last, 50, one of 35.0 (table 36). `plot_sweeps(results, "layers.png")` draws such curves in one call.
#
# ## The encoder, cut off there
# Where an earlier layer is as good, it is also cheaper: later blocks are left out, and cost neither time nor memory. Here
# for the first task.

# %%
layer = what.best_layer or encoder.num_layers
small = encoder.truncate(layer)
print(f"all blocks: {encoder.count_params():,} parameters")
print(f"up to layer {layer}: {small.count_params():,}")
tokens = np.asarray(small.encode(pairs[0].images))
print("it gives tokens:", tokens.shape)

# %% [markdown]
# `result.encoder_at_best()` does it in one call, and raises if no layer is better than a guess.
#
# ## Where to go on
# * [Probing](https://github.com/keras-pe/keras_pe/blob/main/docs/probing.md): all probes (segmentation, depth, tracking,
#   what a language model should read), and how far to trust a curve.
# * `keras-pe probe flowers --plot layers.png`: the same for a folder with a folder for each class.
# * [See inside](05_see_inside.ipynb): what the layers look like.
# * [Alignment](https://github.com/keras-pe/keras_pe/blob/main/docs/alignment.md): how to bring an inner layer to the output.
