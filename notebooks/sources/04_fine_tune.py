# extras: probe,notebooks
# backends: torch
# %% [markdown]
# # Fine-tune three ways: probe, LoRA, full
#
# You have some labelled pictures of something that the model was not made for, and want a classifier. How much of the
# model should you train?
#
# | method | what is trained | what it takes |
# |---|---|---|
# | `"probe"` | a linear head; the encoder stays as it is | one pass over the pictures, then a closed formula |
# | `"lora"` | the head, and small updates of all blocks | training, with few numbers to train and to store |
# | `"full"` | everything | training, with the memory of an optimizer for all weights |
#
# The pictures here are 1,797 handwritten digits that ship with scikit-learn. The bundled model has learned from drawings:
# whether it can read handwriting is an honest question.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB
SIZE = 32  # pixels a side that the encoder reads; 224 for the other one

# %% [markdown]
# ## The pictures
# They are 8 pixels wide, in 17 steps of grey, and are enlarged. The first half teaches, by twenty of each digit, and the
# second half tests: mostly the hands of other people. An encoder reads any size in whole patches; half of its own is enough
# for so small a digit, and four times as fast.

# %%
import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
pixels = np.clip(digits.images * 16, 0, 255).astype("uint8").repeat(4, 1).repeat(4, 2)
pictures = np.repeat(pixels[..., None], 3, axis=-1)  # (1797, 32, 32, 3)
classes = [str(digit) for digit in range(10)]

half = len(pictures) // 2
rng = np.random.default_rng(0)
of_each = [np.flatnonzero(digits.target[:half] == digit) for digit in range(10)]
train = rng.permutation(
    [row for rows in of_each for row in rng.choice(rows, 20, False)]
)
test = np.arange(half, len(pictures), 2)
print(len(train), "pictures to learn from,", len(test), "to test on")

figure, axes = plt.subplots(2, 10, figsize=(10, 2.3))
for axis, row in zip(axes.flat, (*train[:10], *test[:10]), strict=True):
    axis.imshow(pictures[row])
    axis.set_title(classes[digits.target[row]], fontsize=9)
    axis.axis("off")
figure.tight_layout()
plt.show()

# %% [markdown]
# ## First, without any training
# A name for each class costs nothing, so look at it first.

# %%
import keras_pe

zero_shot = keras_pe.ZeroShotClassifier.from_preset(
    PRESET, [f"the digit {name}" for name in classes]
)
best = zero_shot.predict(list(pictures[test]), top_k=1)
right = np.array([p.index for (p,) in best]) == digits.target[test]
accuracies = {"zero-shot": right.mean()}
print(f"zero-shot {right.mean():.1%}, a guess {1 / len(classes):.0%}")

# %% [markdown]
# ## Probe
# `fit` keeps a fifth of the pictures back to choose by. `evaluate` counts on pictures that nothing has been learned from,
# and gives the interval that so few pictures leave open.

# %%
import time


def new_classifier(method, layers=-1):
    """Returns a classifier that has learned nothing yet."""
    encoder = keras_pe.PEVisionEncoder.from_preset(PRESET)
    converter = keras_pe.PEImageConverter(SIZE)
    return keras_pe.ImageClassifier(encoder, classes, method, layers, converter)


def fit(method, **options):
    """Trains by a method, and prints how it went."""
    classifier = new_classifier(method)
    begun = time.perf_counter()
    report = classifier.fit(
        list(pictures[train]), digits.target[train], progress=False, **options
    )
    seconds = time.perf_counter() - begun
    scores = classifier.evaluate(list(pictures[test]), digits.target[test])
    accuracies[method] = scores["accuracy"].value
    print(f"{method}: {report.trained_parameters:,} numbers, {seconds:.0f} seconds")
    print("right on the test:", scores["accuracy"])
    return classifier, report


probe, report = fit("probe")

# %% [markdown]
# ## LoRA
# It begins with a head that is milder than the probe's, which knows its few pictures by heart, and keeps the epoch of least
# validation loss: if training did not help, you have the probe. First steps may make a good head worse before they make it
# better, so with few pictures have some patience: here as many epochs as there are.

# %%
lora, lora_report = fit("lora", epochs=15, patience=15)

# %% [markdown]
# ## Full
# All weights. It moves furthest from what the model knew, and needs a smaller learning rate (the default is a thirtieth
# of LoRA's).

# %%
full, full_report = fit("full", epochs=15, patience=15)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 3.2))
bars = axes[0].barh(list(accuracies), [100 * v for v in accuracies.values()])
axes[0].bar_label(bars, fmt="%.1f", padding=3)
axes[0].axvline(10, color="grey", linestyle=":")
axes[0].set(xlim=(0, 112), title="right on the test, %; dotted: a guess")
axes[0].invert_yaxis()
for name, done in (("lora", lora_report), ("full", full_report)):
    losses = [done.head_validation["loss"], *(e["val_loss"] for e in done.epochs)]
    axes[1].plot(losses, "o-", label=f"{name}, kept: epoch {done.best_epoch}")
axes[1].set(title="validation loss; epoch 0 is the probe", xlabel="epoch")
axes[1].legend()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Another layer
# The output of an encoder is made for what it was trained for. Another task may find more in an earlier layer, and then a
# probe of that layer is as cheap as any, and the encoder that is left is smaller. `layers="auto"` has the validation
# pictures choose; [Which layer](03_which_layer.ipynb) is about this.

# %%
inner = new_classifier("probe", layers="auto")
report = inner.fit(list(pictures[train]), digits.target[train], progress=False)
scores = inner.evaluate(list(pictures[test]), digits.target[test])
for layer, score in report.layer_scores.items():
    print(f"layer {layer}: {score:.1%} of the validation pictures")
print(f"layer {report.layer} was chosen; right on the test:", scores["accuracy"])

# %% [markdown]
# ## Keep it, and use it
# A preset is a folder with weights, names of classes and how pictures are prepared. LoRA's updates are merged into it. Of the
# three methods that read the last layer, the best one is kept here.

# %%
import tempfile

candidates = {"lora": lora, "full": full, "probe": probe}
name = max(candidates, key=accuracies.get)
with tempfile.TemporaryDirectory() as folder:
    candidates[name].save_to_preset(folder)
    again = keras_pe.ImageClassifier.from_preset(folder)
print(again)

some = test[:12]
answers = again.predict(list(pictures[some]), top_k=1)
figure, axes = plt.subplots(1, 12, figsize=(11, 1.6))
for axis, row, (answer,) in zip(axes, some, answers, strict=True):
    axis.imshow(pictures[row])
    sign = "" if answer.index == digits.target[row] else "\nwrong"
    axis.set_title(f"{answer.name} {answer.probability:.0%}{sign}", fontsize=9)
    axis.axis("off")
plt.show()

# %% [markdown]
# ## What to take
# * Begin with the probe. It takes seconds, and is hard to beat where the pictures are like those the model knows.
# * Then let it choose its layer. That trains nothing either, and digits are far from the drawings that the last layer was
#   trained to name. `"lora"` and `"full"` take `layers` too.
# * The further your pictures are from those, and the more you have, the more LoRA and full training bring. Which one,
#   measure: with intervals as above, on pictures that decided nothing.
# * To choose between methods by their test scores, as the last cell did for want of more pictures, makes the winner look a
#   little better than it is.
#
# ## Where to go on
# * [Fine-tuning](https://github.com/keras-pe/keras_pe/blob/main/docs/fine_tuning.md): folders, data frames, loaders;
#   pairs of images and captions; the encoder as a layer in your own Keras model.
# * [Deploy](10_deploy.ipynb): the classifier's encoder as a file of another runtime.
