# extras: train,probe,notebooks
# backends: torch
# %% [markdown]
# # Pretrain a small model of your own
#
# A dual encoder learns from pictures with captions, and nothing else: which caption belongs to which picture of a batch.
# Here one is trained from random weights, in about two minutes of one core, and then asked two questions. Does it name pictures that it
# has not seen? And does it name *combinations* that no caption ever said?
#
# The pictures are handwritten digits that ship with scikit-learn, each painted in a colour, so that a caption says two
# things: "a red seven". That is small enough for two minutes and real enough to fail: other people wrote the digits of the test.

# %%
PRESET = "pe_core_emoji_patch8_64"  # what the small model is compared with, and where a
# run of your own may start: see the last cell. For photographs: "PE-Core-B16-224", 1.8 GB

# %% [markdown]
# ## Pictures and captions
# Your own data are a table like the one below: a column of paths, a column of captions. CSV, JSON lines, COCO's captions or
# parquet will do, and for more than a disk holds tar shards
# ([how](https://github.com/keras-pe/keras_pe/blob/main/docs/training.md#your-own-images)).
#
# Of ten digits and eight colours, eight pairs are kept out of training altogether, a red zero among
# them: no picture, no caption. Each digit and each colour comes in others.

# %%
import csv
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

digits = load_digits()
words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
colours = {
    "red": (220, 40, 40),
    "green": (30, 150, 60),
    "blue": (40, 80, 220),
    "yellow": (235, 200, 20),
    "purple": (140, 50, 180),
    "orange": (245, 130, 20),
    "brown": (120, 75, 40),
    "pink": (250, 140, 190),
}
names = [f"a {colour} {word}" for word in words for colour in colours]
unseen = {(digit, digit % len(colours)) for digit in range(8)}  # never trained on
folder = Path(tempfile.mkdtemp())
rng = np.random.default_rng(0)


def paint(row, colour):
    """Returns digit `row` in a colour, on a ground that is nearly white or nearly black."""
    ink = Image.fromarray(np.clip(digits.images[row] * 16, 0, 255).astype("uint8"))
    ink = np.asarray(ink.resize((32, 32), Image.Resampling.BICUBIC))[..., None] / 255
    ground = rng.choice((20, 235)) + rng.integers(-20, 20, 3)
    pixels = ink * np.array(list(colours.values())[colour]) + (1 - ink) * ground
    return Image.fromarray(pixels.astype("uint8"))


def write_pairs(name, rows, of_each, keep):
    """Writes pictures and a table of them; returns paths, digits and colours."""
    made = []
    for row in rows:
        digit = int(digits.target[row])
        allowed = [c for c in range(len(colours)) if keep((digit, c))]
        for colour in rng.permutation(allowed)[:of_each].tolist():
            path = folder / f"{name}_{row}_{colour}.png"
            paint(row, colour).save(path)
            made.append((path, digit, colour))
    with (folder / f"{name}.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "caption"))
        for path, digit, colour in made:
            table.writerow((path.name, names[digit * len(colours) + colour]))
    return made


def is_seen(pair):
    return pair not in unseen


# The writers come one after the other: these are mostly other people.
first, second = len(digits.target) // 2, len(digits.target) * 3 // 4
train = write_pairs("train", range(first), 4, is_seen)
held_out = write_pairs("held_out", range(first, second), 1, is_seen)
tests = {
    "new hands": write_pairs("test", range(second, len(digits.target)), 1, is_seen),
    "new combinations": write_pairs(
        "new", range(second, len(digits.target)), 1, lambda pair: pair in unseen
    ),
}
print(len(train), "pictures to learn from,", len(held_out), "to watch,", end=" ")
print("to test on:", {name: len(test) for name, test in tests.items()})


def show(made, titles):
    """Draws pictures side by side."""
    figure, axes = plt.subplots(2, 8, figsize=(10, 3.2))
    for axis, (path, *_), title in zip(axes.flat, made, titles, strict=False):
        axis.imshow(Image.open(path))
        axis.set_title(title, fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    plt.show()


some = train[::230][:16]
show(some, [names[digit * len(colours) + colour] for _, digit, colour in some])

# %% [markdown]
# ## Configure the run
# A `RunConfig` is everything that decides a run; what is not said is the paper's. Two things of its recipe are here in
# small: most of the pictures are seen at half the size, which costs a fourth (*progressive resolution*), and one picture in
# sixteen comes a second time with patches hidden, whose features have to stay (*mask regularisation*). The paper's optimizer,
# LAMB, is for batches of ten thousands: for 128 pictures take AdamW.
#
# Two things are of these data. Augmentation is off, for it mirrors, and a mirrored digit is none. And a batch of 128 has many
# captions twice: `duplicates="ignore"` says that equal ones are not each other's wrong answers.

# %%
from keras_pe.training import (
    ResolutionStage,
    RunConfig,
    RunOptions,
    ShardData,
    pretrain,
    small_towers,
)

config = RunConfig(
    **small_towers(32, width=64, layers=3, text_layers=1, vision={"patch_size": 4}),
    stages=(ResolutionStage(16, 38_400), ResolutionStage(32, 16_640)),
    batch_size=128,
    optimizer="adamw",
    learning_rate=2e-3,
    warmup_steps=20,
    augment=False,
    duplicates="ignore",
)
for tower in ("vision", "text"):
    print(tower, getattr(config, tower))

# %% [markdown]
# ## Train
# Recall on held-out pictures is measured every fifty steps. The folder holds checkpoints too: a run that was stopped goes on
# with `RunOptions(..., resume=True)`, and on one device ends with the same weights as one that was not.

# %%
import time

import keras_pe
from keras_pe.data import PairTable

data = ShardData(
    PairTable(str(folder / "train.csv")), PairTable(str(folder / "held_out.csv"))
)
options = RunOptions(folder / "run", evaluate_every=50, save_every=215, progress=False)
begun = time.perf_counter()
model = pretrain(config, data, options)
print(f"{config.samples:,} pictures in {time.perf_counter() - begun:.0f} seconds")
print(f"{model.count_params():,} weights,", end=" ")
print(f"{model.text_encoder.token_embedding.count_params():,} of them of words")

# %% [markdown]
# (The seconds are of a machine that did much else; one core alone takes less than two minutes.)
#
# The jump of the loss is where the pictures become twice as large: the same patches then show finer parts. The held-out pictures
# are always shown at full size, so that their figure says little before that.


# %%
def column_of(name, path):
    """Returns a column of one of the run's tables; empty cells are NaN."""
    return np.genfromtxt(path, delimiter=",", names=True)[name]


def show_run(run):
    """Draws the loss of each step, and what held-out pictures say."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3))
    for name in ("contrastive_loss", "mask_loss"):
        axes[0].plot(column_of(name, run / "steps.csv"), label=name)
    axes[0].set(title="loss of a step", xlabel="step")
    axes[0].legend()
    for k in (1, 5):
        recall = column_of(f"image_to_text_recall_at_{k}", run / "scores.csv")
        steps = column_of("step", run / "scores.csv")
        axes[1].plot(steps, 100 * recall, "o-", label=f"one of the first {k}")
    axes[1].set(title="held out: right caption found, %", xlabel="step", ylim=(0, 100))
    axes[1].legend()
    figure.tight_layout()
    plt.show()


show_run(folder / "run")

# %% [markdown]
# ## What has it learned?
# All eighty names are classes, also those that no caption had. Beside the trained model: the same one before its first step,
# and the bundled preset, which has seen thousands of drawings and hardly a handwritten digit.

# %%
tokenizer = keras_pe.PETokenizer.from_preset(folder / "run" / "preset")
untrained = keras_pe.PECore.from_config(model.get_config())
models = {
    "untrained": (untrained, tokenizer),
    "trained here": (model, tokenizer),
    PRESET: (
        keras_pe.PECore.from_preset(PRESET),
        keras_pe.PETokenizer.from_preset(PRESET),
    ),
}


def answers_of(model, tokenizer, made):
    """Returns for each picture the number of the nearest name."""
    converter = keras_pe.PEImageConverter(model.vision_encoder.image_size)
    pictures = np.asarray(model.encode_image(converter([path for path, *_ in made])))
    texts = np.asarray(model.encode_text(tokenizer(names)))
    return (pictures @ texts.T).argmax(axis=1)


print(f"{'right, %':32} both  digit  colour")
print(f"{'a guess':32} {100 / len(names):4.1f}  {10:5.1f}  {100 / len(colours):6.1f}")
found = {}
for name, (who, its_tokenizer) in models.items():
    for test, made in tests.items():
        answers = found[name, test] = answers_of(who, its_tokenizer, made)
        digit_right = answers // len(colours) == [digit for _, digit, _ in made]
        colour_right = answers % len(colours) == [colour for *_, colour in made]
        shares = (digit_right & colour_right, digit_right, colour_right)
        both, digit, colour = (100 * share.mean() for share in shares)
        print(f"{name + ', ' + test:32.32} {both:4.1f}  {digit:5.1f}  {colour:6.1f}")

# %% [markdown]
# The rows of new combinations are the interesting ones: names that were never said. A model that had learned its captions by
# heart would never answer with one of them. Colours are easy, at any size; digits are what training goes on for.

# %%
made = tests["new combinations"][::5][:16]
answers = found["trained here", "new combinations"][::5][:16]
titles = []
for (_, digit, colour), answer in zip(made, answers, strict=True):
    right = digit * len(colours) + colour == answer
    titles.append(names[answer][2:] + ("" if right else "\nwrong"))
show(made, titles)

# %% [markdown]
# Words that were trained together point where they should: how similar the captions are to each other, sorted by digit. Blocks
# are digits, stripes within them colours.

# %%
texts = np.asarray(model.encode_text(tokenizer(names)))
figure, axis = plt.subplots(figsize=(4.6, 4))
drawn = axis.imshow(texts @ texts.T, cmap="magma")
axis.set_xticks(range(4, 80, 8), words, rotation=45)
axis.set_yticks(range(4, 80, 8), words)
figure.colorbar(drawn)
plt.show()

# %% [markdown]
# ## Keep it, and go on
# The run has left a preset, with its tokenizer and its image size. Whatever takes the name of a preset takes its folder.

# %%
classifier = keras_pe.ZeroShotClassifier.from_preset(
    folder / "run" / "preset", ["a red three", "a blue three", "a red eight"], ["{}"]
)
path = next(
    path for path, digit, colour in tests["new hands"] if (digit, colour) == (8, 0)
)
for answer in classifier.predict([path], top_k=3)[0]:
    print(f"a red eight is {answer.name}: {answer.probability:.0%}")

# %% [markdown]
# With pictures of your own do not start from nothing: a preset knows most of what a picture is. The same call goes on from its
# weights, in its shape: `with_architecture(config, PRESET)` of `keras_pe.training`, and `initial_weights=PRESET` among the
# options.
#
# ## Where to go on
# * [Distil](07_distil_small.ipynb): a small model that learns from a large one instead of captions.
# * [Training](https://github.com/keras-pe/keras_pe/blob/main/docs/training.md): the same from the command line, on shards, on
#   many devices, with the paper's sizes; [what each step of its recipe was
#   worth](https://github.com/keras-pe/keras_pe/blob/main/projects/emoji/README.md) on drawings.
# * [Name pictures](01_name_pictures.ipynb) and [search](02_search.ipynb) with what you have trained.
