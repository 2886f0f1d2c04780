"""Every number of the public implementations, on the backend that runs."""

import keras
import numpy as np
import pytest

from keras_pe.presets import load_weights
from tests.arrays import to_numpy
from tests.reference_models import (
    TIMM,
    UPSTREAM,
    checkpoint,
    numbers,
    open_clip_model,
    relative_error,
    timm_model,
    upstream_model,
)

TOLERANCE = 1e-5  # relative L2 error of each tensor, float32
BFLOAT16_COSINE = 0.9999


def vision_outputs(encoder, expected, view):
    """Yields (name, ours) for one input size of an upstream folder."""
    images = expected[f"{view}.image"]
    yield f"{view}.output", encoder.encode(images)
    names = [name for name in expected if name.startswith(f"{view}.layer")]
    indices = [int(name.removeprefix(f"{view}.layer")) for name in names]
    layers = [i + 1 if i >= 0 else i for i in indices]  # theirs count from 0
    found = encoder.features(images, layers, class_token=encoder.class_token)
    for name, features in zip(names, found, strict=True):
        yield name, features.values
    normed = encoder.features(images, layers=-1, norm=encoder.norm is not None)
    yield f"{view}.last_norm_nocls", normed.values


VIEWS = ("native", "larger", "wide")


def all_outputs(folder, model, views=VIEWS):
    """Yields (name, ours) for every output tensor of a folder."""
    expected = numbers(folder)
    if folder.startswith("timm"):
        images = expected["image"]
        found = model.features(
            images,
            layers=-1,
            norm=model.norm is not None,
            class_token=model.class_token,
        )
        yield "features", found.values
        if model.pooling is None:
            # timm's default for these is the average over the patches alone.
            patches = to_numpy(found.values)[:, int(model.class_token) :]
            yield "output", patches.mean(axis=1)
        else:
            yield "output", model.encode(images)
        return
    if folder == "open_clip":
        yield "image_embed", model.encode_image(expected["image"])
        yield "text_embed", model.encode_text(expected["text_ids"])
        yield "logit_scale_exp", keras.ops.exp(model.logit_scale)[None]
        return
    encoder = getattr(model, "vision_encoder", model)
    for view in views:
        yield from vision_outputs(encoder, expected, view)
        if model is not encoder:
            embedding = model.encode_image(expected[f"{view}.image"])
            yield f"{view}.image_embed", embedding
    if model is not encoder:
        ids = expected["text.ids"]
        yield "text.embed", model.encode_text(ids)
        yield "text.output", model.encode_text(ids, normalize=False)
        short = expected["text_short.ids"]
        yield "text_short.output", model.encode_text(short, normalize=False)
        frames = expected["video.frames"]
        for name, average in (
            ("video.embed", "raw"),
            ("video.embed_normalized_frames", "normalized"),
        ):
            yield (
                name,
                model.encode_video(frames, normalize=False, frame_average=average),
            )
        yield "logit_scale_exp", keras.ops.exp(model.logit_scale)[None]


def build(folder, **arguments):
    if folder == "open_clip":
        return open_clip_model(**arguments)
    kind, name = folder.split("/")
    make = upstream_model if kind == "upstream" else timm_model
    return make(name, **arguments)


# Between them these have every part that a model can have.
ALL_PARTS = ("upstream/core_cls", "upstream/lang", "upstream/spatial_cls")
FOLDERS = [
    *(f"upstream/{name}" for name in UPSTREAM),
    *(f"timm/{name}" for name in TIMM),
    "open_clip",
]


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder", [pytest.param(FOLDERS[0], marks=pytest.mark.compiled), *FOLDERS[1:]]
)
def test_every_reference_tensor(folder):
    model = build(folder)
    report = load_weights(model, checkpoint(folder))
    assert len(report.loaded) == report.num_tensors
    expected = numbers(folder)
    endings = (".image", ".ids", "text_ids", ".frames")
    inputs = {n for n in expected if n.endswith(endings) or n == "image"}
    # Each size is compiled anew on two backends: all sizes with every part are enough.
    every = keras.backend.backend() == "torch" or folder in ALL_PARTS
    left_out = () if every else VIEWS[1:]
    seen = {name for name in expected if name.split(".")[0] in left_out}
    for name, ours in all_outputs(folder, model, VIEWS if every else VIEWS[:1]):
        error = relative_error(to_numpy(ours), expected[name])
        assert error < TOLERANCE, f"{folder} {name}: {error:.1e}"
        seen.add(name)
    assert seen | inputs == set(expected)  # no number was forgotten


@pytest.mark.slow
@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(folder, marks=() if folder in ALL_PARTS else pytest.mark.once)
        for folder in FOLDERS
    ],
)
def test_bfloat16_stays_close(folder):
    model = build(folder, dtype="bfloat16")
    load_weights(model, checkpoint(folder))
    expected = numbers(folder)
    # How sizes are read is told by float32; each is compiled anew on two backends.
    views = VIEWS if keras.backend.backend() == "torch" else ("wide",)
    for name, ours in all_outputs(folder, model, views):
        x, y = to_numpy(ours).ravel(), expected[name].ravel()
        cosine = float(x @ y / np.linalg.norm(x) / np.linalg.norm(y))
        assert cosine >= BFLOAT16_COSINE, f"{folder} {name}: {cosine:.6f}"


def test_pickled_checkpoint_equals_safetensors():
    pickled, plain = upstream_model("core_cls"), upstream_model("core_cls")
    load_weights(plain, checkpoint("upstream/core_cls"))
    path = checkpoint("upstream/core_cls").with_suffix(".pt")
    load_weights(pickled, path)
    for ours, theirs in zip(pickled.weights, plain.weights, strict=True):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
