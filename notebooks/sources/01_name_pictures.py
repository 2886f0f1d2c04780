# extras: probe
# backends: torch, jax, tensorflow
# %% [markdown]
# # Name pictures with words of your choice
#
# You have pictures and a list of words, and no labels to train with. A Perception Encoder turns a picture into a vector
# and a text into a vector, and was trained so that the two lie close if the text says what the picture shows. So the
# name of a picture is the word whose vector is nearest. This is called zero-shot classification.
#
# The model here is small and ships with the package: it has learned from drawings. The pictures are drawings too, by a
# vendor that it has never seen. With a preset for photographs, the same cells name photographs.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB

# %% [markdown]
# ## The pictures
# In the folder `drawings` there is a folder for each kind of thing, and in it a file for each drawing, which carries its
# name.

# %%
import textwrap
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

paths = sorted(Path("drawings").glob("*/*.png"))
names = [path.stem.replace("_", " ") for path in paths]
kinds = [path.parent.name for path in paths]
print(len(paths), "drawings of", len(set(kinds)), "kinds:", *sorted(set(kinds)))


def show(chosen, titles, columns=8):
    """Draws files side by side, each below its title."""
    rows = -(-len(chosen) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(1.35 * columns, 1.8 * rows))
    for axis, path, title in zip(axes.flat, chosen, titles, strict=False):
        axis.imshow(Image.open(path))
        lines = [textwrap.fill(line, 17) for line in title.split("\n")]
        axis.set_title("\n".join(lines), fontsize=9)
    for axis in axes.flat:
        axis.axis("off")
    figure.tight_layout()
    plt.show()


eight = paths[::24][:8]
show(eight, [path.stem.replace("_", " ") for path in eight])

# %% [markdown]
# ## Name them
# `ZeroShotClassifier` takes the words, and then pictures: paths, arrays or PIL images. Try words of your own.

# %%
import keras_pe

words = ["bird", "rabbit", "helmet", "cocktail", "flower", "sunflower", "tool", "bus"]
classifier = keras_pe.ZeroShotClassifier.from_preset(PRESET, words)
predictions = classifier.predict(eight, top_k=1)
show(eight, [f"{best.name}\n{best.probability:.0%}" for (best,) in predictions])

# %% [markdown]
# The percentages are shares among *these* words: the model must choose one of them, whether or not any fits. A picture of
# which no word is true gets an answer too, sometimes a confident one.
#
# ## How often is it right?
# Each drawing has a name, so this can be measured: all drawings, with all of their names as classes. A guess would be
# right once in as many times as there are names.

# %%
classifier = keras_pe.ZeroShotClassifier.from_preset(PRESET, names)
predictions = classifier.predict(paths, top_k=5)
first = np.array([best[0].name for best in predictions]) == names
among_five = [
    name in [prediction.name for prediction in best]
    for name, best in zip(names, predictions, strict=True)
]
print(f"of {len(names)} names the first is right for {np.mean(first):.1%}")
print(f"one of the first five is right for {np.mean(among_five):.1%}")
print(f"a guess is right for {1 / len(names):.1%}")

# %%
wrong = [row for row in range(len(paths)) if not first[row]][::5][:16]
titles = [f"{names[row]}\nnot {predictions[row][0].name}" for row in wrong]
show([paths[row] for row in wrong], titles)

# %% [markdown]
# Errors tell more than their number. Is the answer near to the truth, does the picture show both, or is it a matter of
# colours and outlines? A larger model, trained on more pictures, makes fewer and others.
#
# ## The same meaning in other words
# Now the kinds are the classes, each in one word, and then described. To you both lists mean the same. To a model they
# do not: what counts is how often it has read such words with such pictures. Which list is better can only be measured,
# on pictures of which you know the answer.

# %%
described = {
    "animal": "an animal",
    "clothing": "clothes to wear",
    "food": "something to eat or drink",
    "plant": "a plant or a flower",
    "thing": "a tool or a household object",
    "transport": "a vehicle, train or airplane",
}
for title, texts in (
    ("one word", list(described)),
    ("described", list(described.values())),
):
    classifier = keras_pe.ZeroShotClassifier.from_preset(PRESET, texts)
    found = [best[0].index for best in classifier.predict(paths, top_k=1)]
    right = np.array([list(described)[index] for index in found]) == kinds
    shares = [
        f"{kind} {np.mean(right[np.array(kinds) == kind]):.0%}" for kind in described
    ]
    print(f"{title:10} {np.mean(right):.1%} right:", ", ".join(shares))
print(f"a guess    {1 / len(described):.1%}")

# %% [markdown]
# ## What happens inside
# Four steps, each of which you can do yourself: pictures become arrays, texts become numbers of tokens, both become
# vectors of length 1, and their products are the similarities. The model has learned a factor, the logit scale, which
# turns similarities into probabilities by a softmax.

# %%
import keras

model = keras_pe.PECore.from_preset(PRESET)
tokenizer = keras_pe.PETokenizer.from_preset(PRESET)
converter = keras_pe.PEImageConverter.from_preset(PRESET)

images = converter(eight)  # (pictures, height, width, 3), from -1 to 1
tokens = tokenizer(words)  # (words, tokens), whole numbers
image_vectors = np.asarray(model.encode_image(images))
text_vectors = np.asarray(model.encode_text(tokens))
similarities = image_vectors @ text_vectors.T
scale = float(keras.ops.convert_to_numpy(model.clamped_logit_scale()))
logits = scale * similarities
probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
probabilities /= probabilities.sum(axis=1, keepdims=True)
print("pictures", images.shape, "-> vectors", image_vectors.shape)
print("texts", tokens.shape, "-> vectors", text_vectors.shape)
print(f"logit scale {scale:.1f}")

# %%
figure, axes = plt.subplots(1, 2, figsize=(11, 3.6), sharey=True)
for axis, values, title in (
    (axes[0], similarities, "similarity"),
    (axes[1], probabilities, "probability, a row adds up to 1"),
):
    axis.imshow(values, cmap="viridis", aspect="auto")
    axis.set_title(title)
    axis.set_xticks(range(len(words)), words, rotation=30, ha="right")
    for row, column in np.ndindex(values.shape):
        bright = values[row, column] > values.min() + 0.6 * np.ptp(values)
        colour = "black" if bright else "white"
        text = f"{values[row, column]:.2f}"
        axis.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
axes[0].set_yticks(range(len(eight)), [path.stem.replace("_", " ") for path in eight])
figure.tight_layout()
plt.show()

# %% [markdown]
# `ZeroShotClassifier` does one thing more: it puts each word into several sentences, *templates*, and averages their
# vectors. With one template that is the word alone, it must give the numbers above:

# %%
alone = keras_pe.ZeroShotClassifier(model, tokenizer, words, ["{}"], converter)
best = alone.predict(eight, top_k=1)
assert [p.index for (p,) in best] == probabilities.argmax(axis=1).tolist()
assert np.allclose(
    [p.probability for (p,) in best], probabilities.max(axis=1), atol=1e-4
)
print("the same, to four digits; the usual templates are", classifier.templates)

# %% [markdown]
# ## Where to go on
# * [Search](02_search.ipynb): the same vectors, the other way round, find pictures for a text.
# * [Fine-tune three ways](04_fine_tune.ipynb): if words are not enough and you have labels.
# * From the command line: `keras-pe classify owl.png --classes "an owl" "a guitar"`.
# * [Presets](https://github.com/keras-pe/keras_pe#presets) for photographs, and
#   [how accuracy is measured](https://github.com/keras-pe/keras_pe/blob/main/docs/evaluation.md) on published data.
