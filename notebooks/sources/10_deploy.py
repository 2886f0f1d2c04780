# extras: probe,export
# backends: torch, jax
# %% [markdown]
# # Deploy: the model as a file, with a receipt
#
# Where a model is used there is often neither Keras nor Python. An export is a file that another runtime runs: ONNX here,
# which runs on servers, phones and in browsers. The question is always the same: does the file compute what the model
# computes? So every export runs its own file beside the model and says what it found. A file that differs is not kept.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB

# %% [markdown]
# ## One call
# `tower="both"`: a file for pictures, and one for texts. Because the pictures lie in a folder for each class, the receipt
# also has zero-shot and retrieval scores of file and model.

# %%
import tempfile
from pathlib import Path

import keras_pe

work = tempfile.TemporaryDirectory()
plain = Path(work.name) / "plain"
receipt = keras_pe.export.export(PRESET, plain, tower="both", images="drawings")
print(receipt)

# %% [markdown]
# The cosine is the lowest of all outputs that were compared. A cosine can be blind, for a vector may point to the right
# place and have the wrong length, so the relative error is bounded too:

# %%
for tower, file in receipt.files.items():
    for compared in file.compared:
        print(
            f"{tower}, batch of {compared.batch}: lowest cosine {compared.cosine:.7f}, "
            f"largest relative error {compared.error:.1e}"
        )

# %% [markdown]
# ## In whole numbers
# `quantize="int8"` multiplies the large matrices in 8-bit numbers: a smaller file, and on many processors a faster one. What
# it computes is slightly different, and the receipt says how much. Matrices that would suffer most stay as they were.

# %%
small = Path(work.name) / "int8"
int8 = keras_pe.export.export(
    PRESET, small, tower="both", quantize="int8", images="drawings"
)
print(int8)

# %%
import matplotlib.pyplot as plt

bars = {"float32": receipt, "int8": int8}
figure, axes = plt.subplots(1, 3, figsize=(11, 2.8))
for axis, title, value in (
    (
        axes[0],
        "MB of both files",
        lambda r: sum(f.num_bytes for f in r.files.values()) / 2**20,
    ),
    (
        axes[1],
        "ms a picture, a batch of one",
        lambda r: r.files["image"].latency.file_ms,
    ),
    (
        axes[2],
        "zero-shot of the file, %",
        lambda r: 100 * r.scores["zero_shot"]["file"],
    ),
):
    drawn = axis.barh(
        list(bars), [value(one) for one in bars.values()], color=["C0", "C1"]
    )
    axis.bar_label(drawn, fmt="%.1f", padding=3)
    axis.set_title(title, fontsize=10)
    axis.margins(x=0.2)
    axis.invert_yaxis()
figure.tight_layout()
plt.show()

# %% [markdown]
# Times are those of the machine that made this notebook, perhaps a busy one, file and model in turns; on yours they are
# others.
#
# ## What lies in the folder

# %%
for path in sorted(plain.iterdir()):
    print(f"{path.stat().st_size:>12,} bytes  {path.name}")

# %% [markdown]
# `run.py` is a page of Python that needs no Keras: it prepares pictures and texts as keras_pe does, and runs the files.
# This is all there is to it:

# %%
print((plain / "run.py").read_text())

# %% [markdown]
# ## Without Keras
# A process of its own, in which Keras is never imported:

# %%
import json
import subprocess
import sys

some = [
    "drawings/animal/owl.png",
    "drawings/plant/cactus.png",
    "drawings/thing/violin.png",
]
texts = ["owl", "cactus", "violin"]
answer = subprocess.run(
    [sys.executable, str(plain / "run.py"), *some, "--texts", *texts],
    capture_output=True,
    text=True,
    check=True,
)
print(answer.stdout)

# %% [markdown]
# ## The same numbers, by hand
# What the file gives for a picture is the model's embedding before it gets length 1. So two lines are enough to compare.

# %%
import numpy as np
import onnxruntime

model = keras_pe.PECore.from_preset(PRESET)
images = keras_pe.PEImageConverter.from_preset(PRESET)(some)
session = onnxruntime.InferenceSession(str(plain / receipt.files["image"].file))
(from_file,) = session.run(None, {session.get_inputs()[0].name: images})
from_model = np.asarray(model.encode_image(images, normalize=False))
print("largest difference:", f"{np.abs(from_file - from_model).max():.1e}")
assert np.allclose(from_file, from_model, atol=1e-3 * np.abs(from_model).max())

# %% [markdown]
# ## The receipt as a file
# `receipt.json` goes with the export: what was compared, on which inputs, by which versions, on which machine.

# %%
kept = json.loads((small / "receipt.json").read_text())
image = kept["files"]["image"]
print(
    "in int8:", image["in_int8"], "matrices; left in float32:", image["kept_in_float32"]
)
print("calibrated on", image["calibrated_on"], "pictures")
print({name: kept["versions"][name] for name in ("keras", "onnxruntime")})
work.cleanup()

# %% [markdown]
# ## Where to go on
# * `keras-pe export pe_core_emoji_patch8_64 --tower both --output emoji`: the same from the command line.
# * [Export](https://github.com/keras-pe/keras_pe/blob/main/docs/export.md): OpenVINO, LiteRT, SavedModel, `.pt2`, fp16,
#   and the bounds that a file has to keep.
# * A model that you trained is exported in the same way: give it in the place of the preset's name.
