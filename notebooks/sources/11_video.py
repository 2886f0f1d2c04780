# extras: probe,video
# backends: torch, jax
# %% [markdown]
# # Video: find clips, question a benchmark, make pairs to train on
#
# Perception Encoder reads a video as the average of some of its frames. This notebook shows what that can do, and what it
# can't:
#
# * **Find** a clip by words.
# * **Ask a set of clips** whether it needs several frames at all, and their order.
# * **Make pairs** of clips and captions with the data engine, and read the receipt before training on them.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for real videos: "PE-Core-B16-224", 1.8 GB

# %% [markdown]
# ## Clips
# Drawings that move left or right, grow or shrink, an MP4 each, in a folder for each motion. Every drawing comes once, and
# what it does goes by turns: so what is seen says nothing of what happens.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import av
import numpy as np
from PIL import Image

import keras_pe

FRAMES, SIDE = 16, 96
MOTIONS = {  # from the time, 0 to 1, to: place from left to right, size
    "moves left": lambda time: (0.75 - 0.5 * time, 0.45),
    "moves right": lambda time: (0.25 + 0.5 * time, 0.45),
    "grows": lambda time: (0.5, 0.25 + 0.5 * time),
    "shrinks": lambda time: (0.5, 0.75 - 0.5 * time),
}


def draw(drawing, motion):
    """Returns the frames of a clip."""
    frames = []
    for number in range(FRAMES):
        place, size = MOTIONS[motion](number / (FRAMES - 1))
        side = round(SIDE * size)
        small = drawing.resize((side, side), Image.Resampling.LANCZOS)
        frame = Image.new("RGB", (SIDE, SIDE), "white")
        corner = (round(SIDE * place - side / 2), (SIDE - side) // 2)
        frame.paste(small, corner, small)
        frames.append(frame)
    return frames


def write(frames, path):
    """Writes an MP4 of H.264, eight frames a second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=8, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_image(frame)))
        file.mux(stream.encode())


work = tempfile.TemporaryDirectory()
folder = Path(work.name) / "clips"
chosen = [
    path
    for kind in sorted(Path("drawings").iterdir())
    for path in sorted(kind.glob("*.png"))[:12]
]
clips = []
for number, path in enumerate(chosen):
    motion = list(MOTIONS)[number % len(MOTIONS)]
    drawing = Image.open(path).convert("RGBA")
    clips.append(folder / motion / f"{path.stem}.mp4")
    write(draw(drawing, motion), clips[-1])
names = [clip.stem.replace("_", " ") for clip in clips]
print(len(clips), "clips,", sum(clip.stat().st_size for clip in clips), "bytes")

# %% [markdown]
# A converter decodes them: eight frames, spread evenly, of the model's size.

# %%
import matplotlib.pyplot as plt

embedder = keras_pe.Embedder.from_preset(PRESET, batch_size=64)
converter = keras_pe.PEVideoConverter.from_preset(PRESET, num_frames=8)


def show(chosen, titles):
    """Draws the frames of clips, a row each."""
    frames = converter(chosen)  # from -1 to 1
    figure, axes = plt.subplots(
        len(chosen), frames.shape[1], figsize=(9, 1.15 * len(chosen)), squeeze=False
    )
    for row, clip, title in zip(axes, frames, titles, strict=True):
        for axis, frame in zip(row, clip, strict=True):
            axis.imshow(frame / 2 + 0.5)
            axis.set(xticks=[], yticks=[])
        row[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    figure.tight_layout(pad=0.3)
    plt.show()


show(clips[:4], [f"{clip.stem}\n{clip.parent.name}" for clip in clips[:4]])

# %% [markdown]
# ## Find a clip by words
# `Embedder` takes the files, and texts: one call each, one space for both.

# %%
vectors = embedder.encode(clips, progress=False)
words = ["a crab", "a crown", "a bouquet", "an airplane"]
similar = embedder.similarity(words, vectors, progress=False)
best = similar.argmax(axis=1)
found = [clips[place] for place in best]
show(found, [f"{word}:\n{clip.stem}" for word, clip in zip(words, found, strict=True)])

# %% [markdown]
# How good is that? Each clip is looked for by the name of its drawing, among all.

# %%
similar = embedder.similarity(names, vectors, progress=False)
right = similar[np.arange(len(names)), np.arange(len(names))]
ranks = (similar > right[:, None]).sum(axis=1)
for top in (1, 5):
    share = np.mean(ranks < top)
    guess = top / len(clips)
    print(f"among the first {top}: {share:.1%} of the clips; by chance {guess:.1%}")

# %% [markdown]
# ## What the average can't know
# By hand: frames of unit length, averaged. A clip and the same clip backwards have one vector, whatever the model has
# learned.

# %%
frames = converter(clips[:1])  # (1, 8, height, width, 3)
forwards = np.asarray(embedder.model.encode_video(frames))
backwards = np.asarray(embedder.model.encode_video(frames[:, ::-1]))
print("largest difference:", f"{np.abs(forwards - backwards).max():.1e}")
assert np.allclose(forwards, backwards, atol=1e-5)

# %% [markdown]
# ## A card for a set of clips
# Before a model is called good at videos one should know what the clips ask. The card compares the first frame with all,
# with these shuffled, reversed, and with one repeated; and a linear head that sees the frames in order with the same head
# on their average. Here the classes are the motions, and the encoder never learned their names.

# %%
answer = subprocess.run(
    [
        *(sys.executable, "-m", "keras_pe.cli.main", "video-card", str(folder)),
        *("--preset", PRESET, "--output", str(Path(work.name) / "card.json")),
    ],
    capture_output=True,
    text=True,
    check=True,
)
print(answer.stdout)

# %% [markdown]
# In a shell that is `keras-pe video-card clips`. As a picture: heads that were fitted to frames in order, and asked about
# frames in order, shuffled and reversed, beside the head that knows the average alone.

# %%
import json

card = json.loads((Path(work.name) / "card.json").read_text())
heads = {
    "average": "average",
    "in order": "ordered",
    "... shuffled": "shuffled",
    "... reversed": "backwards",
}
scores = [card["order"][key] for key in heads.values()]
values = np.array([100 * score["value"] for score in scores])
ends = 100 * np.array([[score["low"], score["high"]] for score in scores]).T
figure, axis = plt.subplots(figsize=(6, 2.4))
axis.barh(list(heads), values, color=["C0", "C1", "C2", "C3"])
axis.errorbar(values, list(heads), xerr=np.abs(ends - values), fmt="none", c="black")
axis.axvline(100 * card["order"]["chance"], color="grey", ls=":")
axis.set_title("which motion, % of unseen clips; dotted: a guess", fontsize=10)
axis.invert_yaxis()
figure.tight_layout()
plt.show()

# %% [markdown]
# ## Pairs to train on
# The data engine takes clips through stages: here it embeds each, asks the captioner of the package what it sees, and makes
# the caption of that. Results are kept under a hash of what they depend on. The captioner learned from single drawings that
# fill their picture; of a clip it reads the average of four frames.

# %%
import time

from keras_pe.data_engine import (
    Embed,
    Engine,
    JoinedCaption,
    ModelCaptioner,
    ReceiptError,
    RefinedCaption,
    VideoCaption,
    clips_of_folder,
    run_engine,
)

captioner = ModelCaptioner("pe_captioner_emoji_patch8_64", num_frames=4)
engine = Engine(
    [
        Embed(PRESET),
        VideoCaption(captioner),
        RefinedCaption({}),  # what people corrected: nothing yet
        JoinedCaption(["video"]),
    ]
)
pairs = Path(work.name) / "pairs"


def build():
    """Runs the engine; a build that is refused leaves a receipt as well."""
    begun = time.monotonic()
    try:
        run_engine(clips_of_folder(folder), engine, pairs, embedder=embedder)
        print("accepted")
    except ReceiptError as error:
        print("refused:", *error.problems, sep="\n  ")
    print(f"{time.monotonic() - begun:.1f} seconds")
    return json.loads((pairs / "receipt.json").read_text())


receipt = build()

# %% [markdown]
# The receipt: how many clips have a caption, which is the most frequent one, how often captions repeat themselves, and
# whether they are closer to their own clip than to another. A build above a limit, such as 5 % of captions that are one and
# the same, is refused: rows and receipt stay to be looked at, pairs are not written. Then the captioner has to change, or,
# if one knows better, the limit: `run_engine(..., limits=Limits(same_caption=0.1))`.

# %%
print(json.dumps(receipt, indent=1))

# %% [markdown]
# It sees whether captions fit their clips, not whether they are true. So read some:

# %%
rows = [json.loads(line) for line in (pairs / "rows.jsonl").read_text().splitlines()]
exact = 0
for number, row in enumerate(rows):
    name = Path(row["key"]).stem.replace("_", " ")
    exact += row["caption"] == name
    if number % 6 == 0:
        print(f"{name:<18} {row['caption']}")
print(f"{exact} of {len(rows)} captions are the drawing's name, to the letter")

# %% [markdown]
# None of them says what happens: this captioner reads the average as well. For films give the engine another one,
# `EndpointCaptioner` for any server of chat completions, or a function.
#
# ## Nothing twice
# The same again takes everything from the ledger:

# %%
assert build() == receipt
work.cleanup()

# %% [markdown]
# ## Where to go on
# * [The data engine](https://github.com/keras-pe/keras_pe/blob/main/docs/video_engine.md): stages of your own, corrections by
#   hand, limits, and what it can't do.
# * [Training](https://github.com/keras-pe/keras_pe/blob/main/docs/training.md): `python -m recipes.video` trains on shards of clips.
# * [Search](02_search.ipynb): an index on the disk, of pictures.
