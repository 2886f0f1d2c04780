# extras: probe
# backends: torch, jax
# %% [markdown]
# # Search pictures by words, and by pictures
#
# You have a folder of pictures without any labels, and want to find things in it. Turn each picture into a vector once,
# and keep the vectors: that is an index. A question, a text or another picture, becomes a vector too, and the answer is
# the pictures whose vectors are nearest.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB

# %%
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

paths = sorted(Path("drawings").glob("*/*.png"))
names = [path.stem.replace("_", " ") for path in paths]
print(len(paths), "drawings")

# %% [markdown]
# ## Vectors
# `Embedder` takes pictures, texts or videos, and gives a vector of length 1 for each. Their product is their similarity.

# %%
import keras_pe

embedder = keras_pe.Embedder.from_preset(PRESET)
vectors = embedder.encode(paths, progress=False)
print(vectors.shape, "of length", np.linalg.norm(vectors, axis=1).round(4).min())

# %% [markdown]
# ## Search by words
# The model sees no file names: what counts is what the pictures show. The first four are words for things that can be drawn,
# the last two are not: this small model has learned names of drawings, and little of what they have in common. A larger one
# knows more of that.

# %%
questions = ["police car", "fruit", "flower", "tree", "music", "flying"]


def show_matches(scores, first_column, columns=6):
    """Draws for each row of scores the pictures that score highest, best first."""
    rows = len(scores)
    figure, axes = plt.subplots(
        rows, columns + 1, figsize=(1.3 * (columns + 1), 1.55 * rows)
    )
    for row, (draw_first, line) in enumerate(zip(first_column, scores, strict=True)):
        draw_first(axes[row, 0])
        for axis, found in zip(axes[row, 1:], np.argsort(-line)[:columns], strict=True):
            axis.imshow(Image.open(paths[found]))
            name = textwrap.fill(names[found], 16)
            axis.set_title(f"{name}\n{line[found]:.2f}", fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    plt.show()


def words(text):
    """Returns what writes a text instead of a picture."""
    return lambda axis: axis.text(0.5, 0.5, text, ha="center", va="center", fontsize=12)


scores = embedder.similarity(questions, vectors)
show_matches(scores, [words(question) for question in questions])

# %% [markdown]
# Similarities of texts with pictures are comparable within a row. A row has a best picture even if nothing in the folder
# fits: where to stop is your choice.
#
# ## Search by a picture
# The same vectors, asked with a picture of the folder; its own place in the list is left out. Alike are, to this model,
# things of one kind, and also things of one outline or colour.

# %%
asked = [names.index(name) for name in ("bus", "tulip", "red apple", "leopard")]


def picture(path):
    """Returns what draws a file, framed, as the question of its row."""

    def draw(axis):
        axis.imshow(Image.open(path))
        axis.set_title("like this?", fontsize=9, fontweight="bold")

    return draw


scores = embedder.similarity(vectors[asked], vectors)
scores[range(len(asked)), asked] = -1.0
show_matches(scores, [picture(paths[row]) for row in asked])

# %% [markdown]
# ## How good is it?
# Each drawing has a name. Search for each name: how often is its drawing the first, or among the first five or ten? And
# the other way, from a drawing to its name. Guessing would find one in as many as there are drawings.

# %%
similarities = embedder.similarity(
    names, vectors, progress=False
)  # (texts, pictures), pairs in order
print("               first   of five   of ten")
for title, table in (
    ("text -> picture", similarities),
    ("picture -> text", similarities.T),
):
    ranks = (table > np.diag(table)[:, None]).sum(axis=1)  # how many are ahead
    shares = [f"{np.mean(ranks < k):8.1%}" for k in (1, 5, 10)]
    print(title, *shares)
print(
    f"guessing       {1 / len(names):8.1%} {5 / len(names):8.1%} {10 / len(names):8.1%}"
)

# %% [markdown]
# ## An index on the disk
# `ImageIndex` keeps vectors with their paths, knows which model made them, goes on where it was stopped, and takes what
# is new. Here half of the kinds come first, and then all.

# %%
import tempfile

from keras_pe.search import ImageIndex

work = tempfile.TemporaryDirectory()
where = Path(work.name) / "drawings.index"
model, tokenizer = embedder.model, embedder.tokenizer
converter = embedder.image_converter

some = [path for path in paths if path.parent.name in ("animal", "food", "plant")]
index = ImageIndex.build(model, some, where, converter, preset=PRESET)
print(len(index), "pictures")
index = ImageIndex.build(model, paths, where, converter, preset=PRESET, update=True)
print(len(index), "pictures, of which", index.num_unchanged, "were there already")

# %% [markdown]
# Later, in another program:

# %%
index = ImageIndex.open(where)
query = index.query_text(model, tokenizer, "a police car")
for match in index.search(query, top_k=5):
    print(f"{match.similarity:.3f}  {match.path.stem}")
query = index.query_image(model, "drawings/plant/rose.png", converter)
print("like the rose:", *(match.path.stem for match in index.search(query, top_k=4)))

# %% [markdown]
# An index of another model is refused: vectors of different models have nothing to do with each other.

# %%
other = keras_pe.Embedder.from_preset("pe_core_emoji_small_patch8_64")
try:
    index.query_text(other.model, other.tokenizer, "a police car")
except ValueError as error:
    print(error)
work.cleanup()

# %% [markdown]
# ## Near copies, and odd ones out
# The same vectors say which pictures are most alike, and which is like no other.

# %%
alike = vectors @ vectors.T
np.fill_diagonal(alike, -1.0)
nearest = alike.argmax(axis=1)
best = np.argsort(-alike.max(axis=1))
mutual = [row for row in best if nearest[nearest[row]] == row and row < nearest[row]]
pairs = [(row, nearest[row]) for row in mutual]
odd = np.argsort(alike.max(axis=1))[:6]
figure, axes = plt.subplots(2, 6, figsize=(9, 3.4))
for axis, row in zip(axes[0], [row for pair in pairs[:3] for row in pair], strict=True):
    axis.imshow(Image.open(paths[row]))
    axis.set_title(f"{names[row]}\n{alike[row].max():.2f}", fontsize=8)
for axis, row in zip(axes[1], odd, strict=True):
    axis.imshow(Image.open(paths[row]))
    axis.set_title(f"{names[row]}\n{alike[row].max():.2f}", fontsize=8)
for axis in axes.flat:
    axis.axis("off")
figure.suptitle(
    "above: the three pairs most alike; below: what has no neighbour", fontsize=10
)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Where to go on
# * `keras-pe index photos --output photos.index` and `keras-pe search photos.index --text "a red car"` do all of it for a
#   folder. Search is exact; a million vectors take under a second.
# * [Name pictures](01_name_pictures.ipynb): what happens inside the model.
# * [Evaluation](https://github.com/keras-pe/keras_pe/blob/main/docs/evaluation.md): retrieval on published data, with
#   its protocol and intervals.
