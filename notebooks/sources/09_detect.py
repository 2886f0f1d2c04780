# extras: probe,notebooks
# backends: torch
# %% [markdown]
# # Detect: make the encoder ready for a detector, and find things
#
# A detector reads large pictures, and wants to know *where* things are. An encoder as it was pretrained is not ready for
# that: its pictures are small, its attention grows with the square of their area, and it gives one vector for all. Here you
# convert one (larger patches, windows), look at what that costs, train a small head that finds things, and name what it
# finds with words: things that the head was never taught.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB

# %% [markdown]
# ## Convert
# `convert` keeps all weights, and changes how they read a picture:
#
# * `patch_size`: patches twice as large see a picture twice as large with as many tokens;
# * `window_size`: most blocks look at windows of the size of the pretraining, a few at everything (`global_blocks`);
# * `rope_reference_grid`: positions of a larger grid are squeezed into the range that the blocks have learned.

# %%
import numpy as np

import keras_pe
from keras_pe.models.conversion_receipt import conversion_receipt
from keras_pe.models.feature_pyramid import FeaturePyramid

core = keras_pe.PECore.from_preset(PRESET)
original = core.vision_encoder
grid = original.image_size // original.patch_size
blocks = original.num_layers
side = 4 * original.image_size  # of the pictures: 16 times the area
windowed = original.convert(
    patch_size=2 * original.patch_size,
    window_size=grid,
    global_blocks=(blocks // 2, blocks),
    rope_reference_grid=grid,
)
patch = windowed.patch_size
print(f"{original.image_size} px in patches of {original.patch_size}", end=" -> ")
print(f"{side} px in patches of {patch}: {(side // patch) ** 2} of them")

# %% [markdown]
# ## Scenes to look at
# Drawings on photographs (those that ship with scikit-learn, made paler). Two of three drawings are for training, the
# third is for the test: what the head meets there it has never seen.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from sklearn.datasets import load_sample_images

paths = sorted(Path("drawings").glob("*/*.png"))
taught = [path for place, path in enumerate(paths) if place % 3]
unseen = paths[::3]
photographs = [
    Image.fromarray(photograph) for photograph in load_sample_images().images
]


def scene(files, rng):
    """Returns a picture of two or three drawings, their boxes and their files."""
    photograph = photographs[rng.integers(len(photographs))]
    left, top = (int(v) for v in rng.integers(0, 150, 2))
    canvas = photograph.crop((left, top, left + 256, top + 256)).resize((side, side))
    canvas = Image.blend(canvas, Image.new("RGB", canvas.size, "white"), 0.5)
    boxes, shown = [], []
    for _ in range(int(rng.integers(2, 4))):
        size = int(rng.integers(side // 4, side // 2))
        for _ in range(20):  # a place that covers no other drawing
            left, top = (int(v) for v in rng.integers(0, side - size, 2))
            box = (left, top, left + size, top + size)
            if all(
                box[2] <= b[0] or b[2] <= box[0] or box[3] <= b[1] or b[3] <= box[1]
                for b in boxes
            ):
                path = files[rng.integers(len(files))]
                drawing = Image.open(path).convert("RGBA").resize((size, size))
                canvas.paste(drawing, (left, top), drawing)
                boxes.append(box)
                shown.append(path)
                break
    return np.asarray(canvas), np.array(boxes, "float32"), shown


rng = np.random.default_rng(0)
train = [scene(taught, rng) for _ in range(160)]
test = [scene(unseen, rng) for _ in range(40)]


def draw(axis, picture, boxes, titles=None, colour="crimson"):
    """Draws a picture with boxes."""
    axis.imshow(picture)
    axis.axis("off")
    for place, (left, top, right, bottom) in enumerate(boxes):
        corner = (left, top)
        frame = plt.Rectangle(
            corner, right - left, bottom - top, fill=False, color=colour
        )
        axis.add_patch(frame)
        if titles:
            label = {"facecolor": "white", "edgecolor": "none", "pad": 1, "alpha": 0.8}
            axis.text(left, top, titles[place], fontsize=8, va="bottom", bbox=label)


figure, axes = plt.subplots(1, 5, figsize=(12, 2.7))
for axis, (picture, boxes, files) in zip(axes, train, strict=False):
    draw(axis, picture, boxes, [path.stem for path in files])
figure.tight_layout()
plt.show()

# %% [markdown]
# ## What the conversion costs
# Before anything is trained: how near are the converted encoder's tokens to those of the original, on the same pictures?
# A cosine of 1 is the same. Larger patches alone cost next to nothing. A larger picture cut into windows is another matter:
# each window sees a part of it at a larger scale, and cannot say what the original says of the whole. Such numbers order
# choices before training; they do not say what training makes of them.

# %%
pictures = np.stack([picture for picture, _, _ in test[:16]])
images = pictures.astype("float32") / 127.5 - 1
print(conversion_receipt(original, original.convert(patch_size=patch), images))
print("with windows, on the larger picture:")
print(conversion_receipt(original, windowed, images, image_size=side))

# %% [markdown]
# ## Maps for a detector
# A detector reads maps at several strides. `FeaturePyramid` makes them from one layer of the encoder; its levels are new,
# and are trained with the detector.

# %%
trunk = windowed.truncate(-1)  # tokens instead of an embedding
pyramid = FeaturePyramid(trunk, scales=(4, 2, 1, 0.5), channels=64)
for level, values in pyramid(images[:1]).items():
    print(level, tuple(values.shape), "stride", side // values.shape[1])

# %% [markdown]
# ## A small head
# To see in a minute what the frozen tokens are worth, leave the pyramid aside and train a head of two convolutions on them.
# For each patch it says whether the patch lies in the middle of a thing, and how far it is to the four sides of its box.

# %%
import keras
from keras import ops


def tokens_of(scenes):
    """Returns the encoder's tokens as maps, `(scenes, rows, columns, channels)`."""
    pictures = np.stack([picture for picture, _, _ in scenes])
    images = pictures.astype("float32") / 127.5 - 1
    parts = [
        trunk.features(images[i : i + 16], layers=-1) for i in range(0, len(images), 16)
    ]
    rows = side // patch
    values = np.concatenate([np.asarray(part.values) for part in parts])
    return values.reshape(len(images), rows, rows, -1)


def targets_of(scenes):
    """Returns for each patch: in the middle of a box?, and four distances to its sides."""
    centres = (np.arange(side // patch) + 0.5) * patch
    x, y = np.meshgrid(centres, centres)
    targets = np.zeros((len(scenes), *x.shape, 5), "float32")
    for target, (_, boxes, _) in zip(targets, scenes, strict=True):
        for left, top, right, bottom in boxes:
            distances = np.stack([x - left, y - top, right - x, bottom - y], axis=-1)
            inside = distances.min(axis=-1) > 0.25 * (right - left)
            target[inside, 0] = 1
            target[inside, 1:] = distances[inside] / side
    return targets


def loss(targets, outputs):
    """Binary cross-entropy of "a thing is here", and the error of the sides there."""
    here = targets[..., :1]
    sure = keras.losses.binary_crossentropy(here, outputs[..., :1], from_logits=True)
    sides = ops.sum(ops.abs(targets[..., 1:] - ops.sigmoid(outputs[..., 1:])) * here)
    return ops.mean(sure) + sides / (ops.sum(here) + 1.0)


tokens, tokens_test = tokens_of(train), tokens_of(test)
keras.utils.set_random_seed(0)
head = keras.Sequential(
    [
        keras.Input(tokens.shape[1:]),
        keras.layers.LayerNormalization(),
        keras.layers.Conv2D(48, 3, padding="same", activation="gelu"),
        keras.layers.Conv2D(5, 3, padding="same"),
    ]
)
head.compile(keras.optimizers.AdamW(3e-3), loss)
history = head.fit(tokens, targets_of(train), batch_size=16, epochs=20, verbose=0)
losses = history.history["loss"]
print(f"{head.count_params():,} parameters; loss {losses[0]:.3f} -> {losses[-1]:.3f}")

# %% [markdown]
# ## Find things that it has never seen
# Of patches that point to the same box the surest one stays. Found means: overlap with the true box by half (IoU).

# %%


def overlap(box, boxes):
    """Returns the IoU of a box with each of others."""
    low = np.maximum(box[:2], boxes[:, :2])
    high = np.minimum(box[2:], boxes[:, 2:])
    shared = np.prod(np.clip(high - low, 0, None), axis=1)
    areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return shared / (np.prod(box[2:] - box[:2]) + areas - shared)


def boxes_of(output, least=0.5):
    """Returns boxes of a map of outputs, surest first."""
    sure = 1 / (1 + np.exp(-output[..., 0]))
    sides = side / (1 + np.exp(-output[..., 1:]))
    rows, columns = np.nonzero(sure > least)
    x, y = (columns + 0.5) * patch, (rows + 0.5) * patch
    left, top, right, bottom = sides[rows, columns].T
    boxes = np.stack([x - left, y - top, x + right, y + bottom], axis=1)
    kept = []
    for place in np.argsort(-sure[rows, columns]):
        if not kept or overlap(boxes[place], np.array(kept)).max() < 0.3:
            kept.append(boxes[place])
    return np.array(kept).reshape(-1, 4)


outputs = head.predict(tokens_test, verbose=0)
found = [boxes_of(output) for output in outputs]
hits = sum(
    overlap(true, boxes).max() > 0.5
    for boxes, (_, truth, _) in zip(found, test, strict=True)
    for true in truth
    if len(boxes)
)
total, given = sum(len(truth) for _, truth, _ in test), sum(map(len, found))
print(f"{hits} of {total} unseen drawings found, with {given} boxes")

# %% [markdown]
# ## Name them
# The head knows nothing but "a thing". What is in a box, words can say: cut it out, and ask the dual encoder, as in
# [Name pictures](01_name_pictures.ipynb). The classes are the names of the unseen drawings.

# %%
names = [path.stem.replace("_", " ") for path in unseen]
classifier = keras_pe.ZeroShotClassifier.from_preset(PRESET, names)
figure, axes = plt.subplots(2, 4, figsize=(12, 6.2))
for axis, boxes, (picture, _, _) in zip(axes.flat, found, test, strict=False):
    edges = np.clip(boxes.round(), 0, side).astype(int)
    crops = [Image.fromarray(picture[t:b, left:r]) for left, t, r, b in edges]
    named = (
        [best.name for (best,) in classifier.predict(crops, top_k=1)] if crops else []
    )
    draw(axis, picture, boxes, named)
figure.tight_layout()
plt.show()

# %%
right, cut = 0, 0
for boxes, (picture, truth, files) in zip(found, test, strict=True):
    for true, path in zip(truth, files, strict=True):
        overlaps = overlap(true, boxes) if len(boxes) else np.zeros(1)
        if overlaps.max() > 0.5:
            left, top, r, bottom = np.clip(
                boxes[overlaps.argmax()].round(), 0, side
            ).astype(int)
            crop = Image.fromarray(picture[top:bottom, left:r])
            ((best,),) = classifier.predict(crop, top_k=1)
            cut += 1
            right += best.name == path.stem.replace("_", " ")
print(f"{right} of {cut} found things have the right one of {len(names)} names")
print(f"a guess would be right for {cut / len(names):.1f}")

# %% [markdown]
# ## Where to go on
# * [Detection](https://github.com/keras-pe/keras_pe/blob/main/docs/detection.md): which layer, which windows, how published
#   detectors were trained. `recipes/detection` in the repository puts a pyramid under KerasHub's RetinaNet.
# * [Which layer](03_which_layer.ipynb): a frozen detector reads an inner layer; measure which.
# * [Alignment](https://github.com/keras-pe/keras_pe/blob/main/docs/alignment.md): encoders that were made for dense tasks.
