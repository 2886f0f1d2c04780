# extras: train,probe,notebooks
# backends: torch
# %% [markdown]
# # Align: to masks, and to language
#
# A Perception Encoder is trained to give one vector for a whole picture. Other tasks want its patches, and the best patches
# are seldom those of the last layer ([Which layer](03_which_layer.ipynb)). *Alignment* trains a copy a little further, so that
# its output is what the task wants:
#
# * **spatial**: the last layer learns to give what an inner one gave, and which patches belong to one thing;
# * **language**: a small language model learns to answer questions about pictures, and the encoder to be read by it.
#
# Either takes less than a minute here, which is enough to see how it is done and what begins to change, and not enough for a
# good encoder: what longer runs bring is linked at the end.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB
SIZE = 64  # pixels a side that the encoder reads; 224 for the other one

# %% [markdown]
# ## Pictures, and masks
# Drawings of other things teach than test. Four of them lie on each picture. Their transparency says which pixel
# is whose: exact masks, which cost nothing. For photographs [SAM](https://github.com/keras-pe/keras_pe/blob/main/docs/alignment.md)
# can draw some, or nobody: masks may be left out.

# %%
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import keras_pe

kinds = sorted(path.name for path in Path("drawings").iterdir() if path.is_dir())
paths = sorted(Path("drawings").glob("*/*.png"))
parts = {"align": paths[::4] + paths[1::4], "fit": paths[2::4], "test": paths[3::4]}
rng = np.random.default_rng(0)


def opened(path, side):
    """Returns a drawing with its transparency, in a square."""
    return Image.open(path).convert("RGBA").resize((side, side))


def ground():
    """Returns a picture of one light colour."""
    colour = tuple(rng.integers(150, 256, 3).tolist())
    return Image.new("RGB", (SIZE, SIZE), colour)


def scene(drawings):
    """Returns a picture, which thing each pixel shows (from 1), and of which kind."""
    canvas = ground()
    things, kind_of = np.zeros((2, SIZE, SIZE), "uint8")
    for place, path in enumerate(rng.choice(drawings, 4, replace=False)):
        side = int(rng.uniform(0.38, 0.5) * SIZE)
        drawing = opened(path, side)
        x, y = np.array([place % 2, place // 2]) * SIZE // 2
        x, y = (int(min(SIZE - side, at + rng.integers(0, SIZE // 8))) for at in (x, y))
        canvas.paste(drawing, (x, y), drawing)
        inside = np.asarray(drawing)[..., 3] > 127
        things[y : y + side, x : x + side][inside] = place + 1
        kind = kinds.index(Path(path).parent.name) + 1
        kind_of[y : y + side, x : x + side][inside] = kind
    return canvas, things, kind_of


def scenes(part, count):
    """Returns pictures as an encoder reads them, masks of things, masks of kinds."""
    made = [scene(parts[part]) for _ in range(count)]
    images = keras_pe.PEImageConverter(SIZE)([canvas for canvas, *_ in made])
    return images, *(np.stack([row[n] for row in made]) for n in (1, 2))


pictures, things, _ = scenes("align", 192)
fit_pictures, _, fit_kinds = scenes("fit", 64)
test_pictures, test_things, test_kinds = scenes("test", 48)
print({part: len(drawings) for part, drawings in parts.items()}, "drawings")

figure, axes = plt.subplots(2, 6, figsize=(10, 3.4))
for column in range(6):
    axes[0, column].imshow((pictures[column] + 1) / 2)
    axes[1, column].imshow(things[column], cmap="tab10", vmax=9)
for axis in axes.flat:
    axis.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Spatial alignment
# One call: it sweeps the layers on a task, takes the best one as teacher, trains a copy while half of its patches are hidden,
# and sweeps again. The task: of which kind is each pixel? A linear head on the patches is fitted to scenes of some drawings,
# and scored on scenes of others, neither of which the alignment has seen.
#
# A second task is there for what must not be lost: the kind of a whole picture, by its nearest neighbours.

# %%
import time

from keras_pe.alignment import Task, align_spatial
from keras_pe.probing import Segmentation


def singles(part):
    """Returns pictures of one drawing each, and the numbers of their kinds."""
    made = []
    for path in parts[part]:
        canvas, drawing = ground(), opened(path, SIZE)
        canvas.paste(drawing, (0, 0), drawing)
        made.append(canvas)
    labels = [kinds.index(path.parent.name) for path in parts[part]]
    return keras_pe.PEImageConverter(SIZE)(made), np.array(labels)


tasks = {
    "kinds of pixels": Task(
        Segmentation(learning_rates=(1e-2,), epochs=10),
        (fit_pictures, fit_kinds),
        (test_pictures, test_kinds),
    ),
    "kinds of pictures": Task("knn", singles("align"), singles("test")),
}
core = keras_pe.PEVisionEncoder.from_preset(PRESET)
begun = time.process_time()
aligned, report = align_spatial(
    core,
    pictures,
    things,
    tasks=tasks,
    steps=50,
    batch_size=16,
    mask_ratio=0.5,
    progress=False,
)
print(f"{time.process_time() - begun:.0f} seconds of CPU")
print(report)

# %% [markdown]
# Read the report from above. The losses, of pictures of which nothing is hidden, say whether training did what it was asked. The
# intervals say whether the *tasks* gained anything by it, and here there are few pictures and few steps: what may be chance is
# called so. A task that loses is as important to see as one that gains.

# %%
report.plot()

# %% [markdown]
# ## What has changed
# Patches of test scenes as colours: one colour, one kind of patch to the encoder. On the left the core's last layer, then the
# layer that taught, then the aligned encoder's output.

# %%
from keras_pe import visualization as see


def features_of(encoder, layer, images):
    return encoder.features(images, layers=layer)


shown = test_pictures[:4]
views = {
    "core, last layer": features_of(core, -1, shown),
    f"core, layer {report.layer}": features_of(core, report.layer, shown),
    "aligned, last layer": features_of(aligned, -1, shown),
}
figure, axes = plt.subplots(len(shown), 4, figsize=(8, 8))
for column, (title, features) in enumerate(views.items(), start=1):
    axes[0, column].set_title(title, fontsize=10)
    for row, colours in enumerate(see.pca_map(features)):
        axes[row, column].imshow(colours)
for row, image in enumerate(shown):
    axes[row, 0].imshow((image + 1) / 2)
for axis in axes.flat:
    axis.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# A number for the same: take a patch of a thing, one that belongs to the same thing, and one that does not. How often is the
# first of the two more similar to it? A coin would say half of the time.

# %%
patch = core.patch_size
owner = test_things[:, patch // 2 :: patch, patch // 2 :: patch].reshape(
    len(test_things), -1
)
same = owner[:, :, None] == owner[:, None]  # (pictures, patches, patches)


def told_apart(encoder, layer):
    """Returns the share of such triples, over all patches of things."""
    values = np.asarray(features_of(encoder, layer, test_pictures).values)
    values = values.reshape(len(values), -1, values.shape[-1])
    values = values / np.linalg.norm(values, axis=-1, keepdims=True)
    similar = values @ values.swapaxes(1, 2)
    shares = []
    for picture, row in np.argwhere(owner > 0):
        others = np.arange(owner.shape[1]) != row
        of_it = similar[picture, row][same[picture, row] & others]
        not_of_it = similar[picture, row][~same[picture, row]]
        if len(of_it):
            shares.append(np.mean(of_it[:, None] > not_of_it))
    return np.mean(shares)


compared = [
    ("core, last layer", core, -1),
    (f"core, layer {report.layer}", core, report.layer),
    ("aligned, last layer", aligned, -1),
]
if PRESET == "pe_core_emoji_patch8_64":  # the same core, after 400 steps at 96 pixels
    longer = "pe_spatial_emoji_patch8_64"
    compared.append((longer, keras_pe.PESpatial.from_preset(longer), -1))
for title, encoder, layer in compared:
    print(f"{title:27} {told_apart(encoder, layer):.1%}")

# %% [markdown]
# A measure of one's own need not move with the tasks that an encoder was aligned for. The bundled one gained on parts and scenes
# ([its card](https://github.com/keras-pe/keras_pe/blob/main/keras_pe/presets/pe_spatial_emoji_patch8_64.md)); what it gained there can be lost
# elsewhere, and only a task of yours tells.

# %% [markdown]
# ## Language alignment
# Now questions. A picture here is one drawing on a ground of one of four colours, and is asked two things. The language model
# is small and new, it knows no word; encoder, projector and language model are trained together.

# %%
import io
import tempfile

from keras_pe.data import Question, question_member, write_question_shards

grounds = {
    "red": (225, 120, 120),
    "green": (130, 200, 130),
    "blue": (130, 150, 225),
    "yellow": (235, 225, 120),
}
ASKED = {"kind": "What kind of thing is this?", "colour": "Which colour is behind it?"}


def asked_pictures(drawings, times):
    """Returns (picture, {what is asked: answer}) of drawings, each some times."""
    made = []
    for path in [path for path in drawings for _ in range(times)]:
        colour = str(rng.choice(list(grounds)))
        canvas = Image.new("RGB", (SIZE, SIZE), grounds[colour])
        side = int(rng.uniform(0.7, 1) * SIZE)
        drawing = opened(path, side)
        corner = tuple(rng.integers(0, SIZE - side + 1, 2).tolist())
        canvas.paste(drawing, corner, drawing)
        made.append((canvas, {"kind": path.parent.name, "colour": colour}))
    return [made[row] for row in rng.permutation(len(made))]


def sample_of(number, canvas, answers):
    """Returns a sample of a shard: the picture's file, and its questions."""
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    questions = [Question(ASKED[what], answers[what], what) for what in ASKED]
    return {
        "__key__": f"{number:06}",
        "png": buffer.getvalue(),
        "json": question_member(questions),
    }


learned = asked_pictures(parts["align"] + parts["fit"], 8)
tested = asked_pictures(parts["test"], 2)
folder = Path(tempfile.mkdtemp())
for name, made in (("train", learned), ("test", tested)):
    samples = [sample_of(number, *row) for number, row in enumerate(made)]
    write_question_shards(folder, name, samples)
print(
    len(learned), "pictures to learn from,", len(tested), "of other drawings to test on"
)

# %%
from keras_pe.training import (
    LanguageConfig,
    QuestionData,
    ResolutionStage,
    RunOptions,
    align_language,
)

config = LanguageConfig(
    encoder=PRESET,
    stages=(ResolutionStage(SIZE, 1_920),),
    batch_size=24,
    learning_rate=1e-3,
    encoder_rate=0.1,  # it knows something already
    warmup_steps=8,
    pooling=2,  # four patches become one token
    projector_norm=True,
    decoder_dim=128,
    decoder_layers=2,
    row_length=128,
    questions_apart=True,  # no question sees the answer to another
)
data = QuestionData(str(folder / "train-*.tar"), str(folder / "test-*.tar"))
options = RunOptions(folder / "run", evaluate_every=20, save_every=100, progress=False)
begun = time.process_time()
model = align_language(config, data, options)
seconds = time.process_time() - begun
print(f"{config.samples:,} pictures in {seconds:.0f} seconds of CPU")

# %%
steps = np.genfromtxt(folder / "run" / "steps.csv", delimiter=",", names=True)
scores = np.genfromtxt(folder / "run" / "scores.csv", delimiter=",", names=True)
figure, axes = plt.subplots(1, 2, figsize=(10, 3))
axes[0].plot(steps["step"], steps["loss"])
axes[0].set(title="loss of the answers, a step", xlabel="step")
for what in ASKED:
    column = next(name for name in scores.dtype.names if name.endswith(what))
    axes[1].plot(scores["step"], 100 * scores[column], "o-", label=what)
axes[1].set(title="held-out drawings: right answers, %", xlabel="step", ylim=(0, 102))
axes[1].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Does it look?
# A language model that never looks can be right too: by the most frequent answer. So the same questions are asked with
# another picture of the test, and with none at all.

# %%
right = {what: np.array([answers[what] for _, answers in tested]) for what in ASKED}
canvases = [canvas for canvas, _ in tested]
others = canvases[1:] + canvases[:1]
given = {}
for title, shown in (
    ("the picture", canvases),
    ("another picture", others),
    ("no picture", None),
):
    for what, question in ASKED.items():
        images = [None] * len(tested) if shown is None else shown
        given[title, what] = np.array(
            model.generate(images, [question] * len(tested), max_tokens=3)
        )
    shares = [
        f"{what} {np.mean(given[title, what] == right[what]):.0%}" for what in ASKED
    ]
    print(f"{title:16}", ", ".join(shares))
print(f"{'a guess':16} kind {1 / len(kinds):.0%}, colour {1 / len(grounds):.0%}")

# %% [markdown]
# What is no better than the rows of another picture, of none, and of a guess has not been learned. Colours come first. The kind of
# a drawing that was never shown wants more drawings to learn from than these, and more steps.

# %%
figure, axes = plt.subplots(2, 8, figsize=(11, 3.6))
for axis, row in zip(axes.flat, range(0, len(tested), 6), strict=False):
    axis.imshow(canvases[row])
    lines = []
    for what in ASKED:
        answer = given["the picture", what][row]
        lines.append(answer if answer == right[what][row] else f"{answer} (wrong)")
    axis.set_title("\n".join(lines), fontsize=9)
for axis in axes.flat:
    axis.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Keep them
# Both are presets. The encoders are a `PESpatial` and a `PELang`; neither has a zero-shot head any more.

# %%
converter = keras_pe.PEImageConverter(SIZE)
aligned.save_to_preset(folder / "spatial", image_converter=converter)
print(type(keras_pe.PESpatial.from_preset(folder / "spatial")).__name__)
encoder = keras_pe.PELang.from_preset(folder / "run" / "preset")
print(
    type(encoder).__name__,
    "of",
    encoder.num_layers,
    "blocks, the core has",
    core.num_layers,
)

# %% [markdown]
# ## Where to go on
# * [Spatial alignment](https://github.com/keras-pe/keras_pe/blob/main/docs/alignment.md), also of encoders that are not PE; and
#   [what hundreds of steps bring](https://github.com/keras-pe/keras_pe/blob/main/projects/emoji/alignment/README.md), with
#   three seeds.
# * [Language alignment](https://github.com/keras-pe/keras_pe/blob/main/docs/language.md): in two phases, with language models of
#   KerasHub; and [what ninety minutes bring](https://github.com/keras-pe/keras_pe/blob/main/projects/emoji/language/README.md).
# * [See inside](05_see_inside.ipynb): more maps, of any encoder.
