# extras: train,probe,notebooks
# backends: torch
# %% [markdown]
# # Distil a small model from a large one
#
# A large model is accurate and slow. A small one can learn from it: not what a picture is called, but how the large one ranks
# *all* captions of a batch for it. That tells more than one right caption does, and no picture needs a caption of its own.
#
# Here the teacher is the preset of the package, and the student has half of its vision blocks. What is asked at the end, on
# drawings that the student has not seen: how often does it say what its teacher says, how often is it right, and what did the
# teacher bring that the captions alone would not have?

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB

# %% [markdown]
# ## Pictures
# Three of four drawings are for the student, the fourth for the test. For pictures of your own: a folder, and a table with
# their paths and captions.

# %%
import csv
import tempfile
from pathlib import Path

import numpy as np

paths = sorted(Path("drawings").glob("*/*.png"))
names = [path.stem.replace("_", " ") for path in paths]
tested = np.arange(len(paths)) % 4 == 1
folder = Path(tempfile.mkdtemp())


def write_table(name, chosen):
    """Writes a table of pictures and captions, as `PairTable` reads it."""
    with (folder / name).open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "caption"))
        for row in np.flatnonzero(chosen):
            table.writerow((paths[row].resolve(), names[row]))


write_table("train.csv", ~tested)
write_table("test.csv", tested)
print((~tested).sum(), "drawings to learn from,", tested.sum(), "to test on")

# %% [markdown]
# ## The student
# `with_architecture` takes the sizes of the teacher; then every other vision block is left out. As wide as its teacher, the
# student can start as the blocks that stay, with the whole text tower. That one is frozen here: names are embedded once, so
# their tower costs nothing where it counts.

# %%
import dataclasses

import keras_pe
from keras_pe.data import PairTable
from keras_pe.training import (
    DistillConfig,
    ResolutionStage,
    RunConfig,
    RunOptions,
    ShardData,
    copy_spaced_blocks,
    distill,
    pretrain,
    with_architecture,
)

BATCH, STEPS = 48, 50
config = with_architecture(
    RunConfig(
        vision={},
        text={},
        stages=(ResolutionStage(64, BATCH * STEPS),),
        batch_size=BATCH,
        optimizer="adamw",  # LAMB, the paper's, is for batches of ten thousands
        learning_rate=1e-3,
        warmup_steps=5,
        gradient_clip=1.0,
        mask_weight=0.0,
        freeze="text",
    ),
    PRESET,
)
blocks = config.vision["num_layers"] // 2
config = dataclasses.replace(config, vision={**config.vision, "num_layers": blocks})

teacher = keras_pe.PECore.from_preset(PRESET)
tokenizer = keras_pe.PETokenizer.from_preset(PRESET)
converter = keras_pe.PEImageConverter(teacher.vision_encoder.image_size)
images = converter(paths)
texts = np.asarray(teacher.encode_text(tokenizer(names)))
print(f"teacher {teacher.vision_encoder.num_layers} blocks, student {blocks}")


def scores_of(model, texts=texts):
    """Returns the similarity of all drawings to all names."""
    return np.asarray(model.encode_image(images)) @ np.asarray(texts).T


everything = np.arange(len(paths))
of_teacher = scores_of(teacher)
rows = {}


def add(title, scores):
    """Prints shares, on the drawings that no student learns from."""
    right = (scores.argmax(axis=1) == everything)[tested]
    agrees = (scores.argmax(axis=1) == of_teacher.argmax(axis=1))[tested]
    # Of the test's own drawings: does the name find its picture among the first five?
    ranked = scores[tested][:, tested].T.argsort(axis=1)[:, ::-1][:, :5]
    found = (ranked == np.arange(tested.sum())[:, None]).any(axis=1)
    rows[title] = 100 * np.array([right.mean(), agrees.mean(), found.mean()])
    right, agrees, found = rows[title]
    print(f"{title:34} {right:5.1f} {agrees:14.1f} {found:15.1f}")


# %% [markdown]
# ## Before
# A model whose every other block is gone knows next to nothing: the blocks that stay get what they never saw. Names are
# chosen among all of them.

# %%
student = keras_pe.PECore(
    keras_pe.PEVisionEncoder(**config.vision), keras_pe.PETextEncoder(**config.text)
)
copy_spaced_blocks(teacher, student)
start = str(folder / "start")
student.save_to_preset(start, tokenizer=tokenizer, image_converter=converter)
print(f"{'held-out drawings, %':34} right  as the teacher  found by name")
add("teacher", of_teacher)
add("student before", scores_of(student))
print(f"{'a guess':34} {100 / len(names):5.1f} {100 / len(names):14.1f}", end=" ")
print(f"{500 / tested.sum():15.1f}")

# %% [markdown]
# ## Distil
# `distill` is what the recipe of the command line runs; it leaves checkpoints, logs, curves and a preset in a folder. The
# student sees each drawing cropped, mirrored and with other colours; the teacher sees what the student sees. Its softmax is
# sharp: the paper multiplies its similarities by 200.

# %%
import time

data = ShardData(
    PairTable(str(folder / "train.csv")), PairTable(str(folder / "test.csv"))
)


def run(name, train, config):
    """Trains a student by a recipe, from the same start."""
    options = RunOptions(
        folder / name, initial_weights=start, evaluate_every=25, progress=False
    )
    begun = time.perf_counter()
    trained = train(config, data, options)
    seconds = time.perf_counter() - begun
    print(f"{name}: {BATCH * STEPS:,} pictures in {seconds:.0f} seconds")
    return trained


distilled = run("distilled", distill, DistillConfig(config, teacher=PRESET))

# %% [markdown]
# ## And without a teacher?
# The control: the same student from the same start, on the same pictures and as many of them, that learns from the captions
# alone.

# %%
alone = run("captions alone", pretrain, config)

# %%
import matplotlib.pyplot as plt

print(f"{'held-out drawings, %':34} right  as the teacher  found by name")
add("student, distilled", scores_of(distilled))
add("student, captions alone", scores_of(alone))
if PRESET == "pe_core_emoji_patch8_64":  # the same student after 512,000 pictures
    small = keras_pe.PECore.from_preset("pe_core_emoji_small_patch8_64")
    add(
        "pe_core_emoji_small_patch8_64",
        scores_of(small, small.encode_text(tokenizer(names))),
    )

figure, axes = plt.subplots(1, 2, figsize=(11, 3.4))
for name in ("distilled", "captions alone"):
    steps, scores = (
        np.genfromtxt(folder / name / table, delimiter=",", names=True)
        for table in ("steps.csv", "scores.csv")
    )
    axes[0].plot(steps["step"], steps["contrastive_loss"], label=name)
    found = 100 * scores["text_to_image_recall_at_5"]
    axes[1].plot(scores["step"], found, "o-", label=name)
axes[0].set(title="loss of a step (two different losses)", xlabel="step")
axes[1].axhline(rows["teacher"][2], color="grey", linestyle=":", label="teacher")
axes[1].set(
    title="held out: among the first five, by name, %", xlabel="step", ylim=(0, 100)
)
for axis in axes:
    axis.legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# How to read this:
# * Few drawings: ten points more or less may be chance.
# * Who learns a ranking learns its errors too, and this teacher errs often. So look at the columns
#   apart: the distilled student should answer *as its teacher*, right or wrong. The captions, all of them right here, can make more
#   right names in so few steps; they could not if they were poor, or if there were none for most pictures.
# * What is missing to the teacher is mostly time: the student of the package had two hundred times as many pictures.
# * The seconds above are of a machine that did much else; alone, one core takes a minute and a half for the whole notebook.
#
# ## Search, by both
# The first four of the test's drawings for a few of its names: on the left those of the teacher, on the right of its student.

# %%
from PIL import Image

asked = np.flatnonzero(tested)[::12][:4]
figure, axes = plt.subplots(4, 8, figsize=(10, 5.2))
for title, first, scores in (
    ("teacher", 0, of_teacher),
    ("student", 4, scores_of(distilled)),
):
    for line, name in enumerate(asked):
        order = np.flatnonzero(tested)[np.argsort(-scores[tested, name])]
        for place, row in enumerate(order[:4]):
            axis = axes[line, first + place]
            axis.imshow(Image.open(paths[row]))
            if row == name:
                axis.add_patch(
                    plt.Rectangle((0, 0), 71, 71, fill=False, ec="green", lw=3)
                )
        axes[line, first].set_title(f"{title}: {names[name]}", fontsize=9, loc="left")
for axis in axes.flat:
    axis.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Was it worth it?
# What half of the blocks saves, one picture at a time. On a busy machine look at the ratio.


# %%
def milliseconds(model):
    """Returns the median time of a picture."""
    taken = []
    for _ in range(15):
        begun = time.perf_counter()
        model.encode_image(images[:1])
        taken.append(time.perf_counter() - begun)
    return 1000 * float(np.median(taken[3:]))


for name, model in (("teacher", teacher), ("student", distilled)):
    weights = model.vision_encoder.count_params()
    print(
        f"{name}: {weights:,} weights of vision, {milliseconds(model):.1f} ms a picture"
    )

# %% [markdown]
# ## Keep it
# The run has left a preset with its tokenizer: it names pictures like any other.

# %%
classifier = keras_pe.ZeroShotClassifier.from_preset(
    folder / "distilled" / "preset", ["an animal", "a plant", "a vehicle"]
)
print(paths[asked[0]].stem, "->", classifier.predict([paths[asked[0]]], top_k=1)[0][0])

# %% [markdown]
# ## Where to go on
# * [Training](https://github.com/keras-pe/keras_pe/blob/main/docs/training.md), from the command line, on shards, on many
#   devices: `python -m recipes.distill --help`.
# * [The student of the package](https://github.com/keras-pe/keras_pe/blob/main/keras_pe/presets/pe_core_emoji_small_patch8_64.md):
#   how it was distilled, and what it reaches on drawings, in 3-D and on photographs.
# * [Deploy](10_deploy.ipynb): in int8 and without Keras, which saves more.
