"""Alignment in one call: what comes of it, and what stays as it is."""

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe import PESpatial
from keras_pe.alignment import LayeredEncoder, Task, align_spatial
from keras_pe.arrays import NonFiniteError
from tests.alignment import stand_in
from tests.arrays import to_numpy
from tests.small_models import core, perturb, vision_encoder

SIDE, COUNT = 32, 12
STEPS, RATE = 12, 2e-2
QUIET = {"progress": False, "batch_size": 4}


def images(side=SIDE, count=COUNT, seed=0):
    """Returns noise of 0 to 255, every other one white above."""
    rng = np.random.default_rng(seed)
    found = rng.integers(0, 256, (count, side, side, 3)).astype("uint8")
    found[1::2, : side // 2] = 255
    return found


def shapes(side=SIDE, count=COUNT, patches=4):
    rng = np.random.default_rng(1)
    grid = rng.integers(0, 3, (count, patches, patches))
    return grid.repeat(side // patches, 1).repeat(side // patches, 2).astype("uint8")


def prepare(x):
    return x.astype("float32") / 127.5 - 1.0


def kinds(side=SIDE):
    return Task("knn", (images(side, 30, seed=5), np.arange(30) % 2))


def likeness(student, teacher, layer, side=SIDE):
    """Returns the mean cosine of the last layer's patches to a teacher's layer."""
    x = keras.ops.convert_to_tensor(prepare(images(side, 4, seed=9)))
    (ours,), (theirs,) = (
        encoder.layer_tokens(x, [k], training=False)
        for encoder, k in ((student, -1), (teacher, layer))
    )
    ours, theirs = (
        to_numpy(tokens[:, encoder.prefix_tokens :])
        for tokens, encoder in ((ours, student), (theirs, teacher))
    )
    lengths = np.linalg.norm(ours, axis=-1) * np.linalg.norm(theirs, axis=-1)
    return float(((ours * theirs).sum(-1) / lengths).mean())


def state(model):
    """Returns all that an alignment must leave alone."""
    values = [to_numpy(weight) for weight in model.weights]
    flags = [weight.trainable for weight in model.weights]
    return values, flags, [layer.trainable for layer in model._flatten_layers()]


def assert_same_state(before, after):
    for old, new in zip(before[0], after[0], strict=True):
        np.testing.assert_array_equal(old, new)
    assert before[1:] == after[1:]


# === PE's own encoders ===
@pytest.fixture(scope="module")
def aligned():
    """A `PECore`, its vision encoder aligned to layer 1, and the report."""
    keras.utils.set_random_seed(0)
    model = core(num_layers=3)
    perturb(model)
    model.vision_encoder.blocks[0].trainable = False
    before = state(model)
    encoder, report = align_spatial(
        model, images(), layer=1, tasks={"kinds": kinds()}, steps=STEPS,
        learning_rate=RATE, mask_ratio=0.5, **QUIET,
    )  # fmt: skip
    return model, before, encoder, report


def test_the_last_layer_comes_near_the_layer_that_teaches(aligned):
    model, _, encoder, report = aligned
    assert isinstance(encoder, PESpatial)
    teacher = model.vision_encoder
    before = likeness(teacher, teacher, 1)
    assert likeness(encoder, teacher, 1) > before + 0.08
    old, new = report.whole_images["feature_loss"]
    assert new < 0.75 * old
    assert len(report.losses["feature_loss"]) == STEPS
    assert set(report.losses) == {"feature_loss"}  # no masks were given
    assert (report.layer, report.num_layers) == (1, 3)


def test_what_was_given_stays_as_it_is(aligned):
    model, before, encoder, _ = aligned
    assert_same_state(before, state(model))
    assert all(weight.trainable for weight in encoder.trainable_weights)
    shared = {id(w) for w in model.weights} & {id(w) for w in encoder.weights}
    assert not shared


def test_layers_are_compared_before_and_after(aligned, tmp_path):
    model, _, encoder, report = aligned
    before, after = report.before["kinds"], report.after["kinds"]
    assert before.encoder is model.vision_encoder
    assert after.encoder is encoder
    assert [row.layer for row in after.layers] == [0, 1, 2, 3]
    assert report.settings["optimizer"] == "lamb"
    report.to_json(tmp_path / "report.json")
    encoder.save_to_preset(tmp_path / "spatial")
    loaded = PESpatial.from_preset(tmp_path / "spatial")
    x = prepare(images(count=2))
    np.testing.assert_allclose(
        to_numpy(loaded(x)), to_numpy(encoder(x)), rtol=1e-2, atol=1e-2
    )


@pytest.mark.slow
def test_masks_alone_do_not_bring_the_last_layer_near():
    """The control: it is not training that does it, but the teacher."""
    model = perturb(vision_encoder())
    encoder, report = align_spatial(
        model, images(), shapes(), layer=1, steps=STEPS, feature_weight=0.0,
        learning_rate=RATE, mask_ratio=0.5, background_weight=0.5, **QUIET,
    )  # fmt: skip
    assert set(report.losses) == {"correspondence_loss"}
    old, new = report.whole_images["correspondence_loss"]
    assert new < 0.95 * old
    before = likeness(model, model, 1)
    assert likeness(encoder, model, 1) < before + 0.03
    assert "masks alone did" in str(report)


@pytest.mark.slow
@pytest.mark.once  # what the host does; the step is the trainer's
def test_a_seed_decides_all():
    model = perturb(vision_encoder())
    options = {"steps": 2, "masks": shapes(), **QUIET}

    def weights(seed):
        encoder, _ = align_spatial(model, images(), seed=seed, **options)
        return [to_numpy(weight) for weight in encoder.weights]

    one, same, other = weights(0), weights(0), weights(1)
    for value, again in zip(one, same, strict=True):
        np.testing.assert_allclose(value, again, atol=1e-6)
    assert any(np.abs(v - w).max() > 1e-4 for v, w in zip(one, other, strict=True))


# === Who says which patches belong together ===
@pytest.mark.slow
@pytest.mark.once  # what the host does; the step is the trainer's
def test_masks_in_batches_are_the_same_as_in_arrays():
    model = perturb(vision_encoder())
    parts = [slice(0, 4), slice(4, 12)]
    options = {"steps": 1, "flip": False, "mask_ratio": 0.0, **QUIET, "batch_size": 12}

    def batches():
        return ((images()[part], shapes()[part]) for part in parts)

    reports = [
        align_spatial(model, batches, **options)[1],
        align_spatial(model, images(), shapes(), **options)[1],
    ]
    for name in ("feature_loss", "correspondence_loss"):
        found = [report.whole_images[name][0] for report in reports]
        assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.slow
@pytest.mark.once  # what the host does; the step is the trainer's
def test_a_function_is_asked_for_the_images_of_the_batch():
    model, asked = perturb(vision_encoder()), []

    def by_brightness(batch, grid):
        asked.append(np.asarray(batch))
        rows = asked[-1].reshape(len(batch), grid[0], 8, grid[1], 8, 3).mean((2, 4, 5))
        return np.stack([rows > 0.5, rows <= 0.5], axis=-1)

    _, report = align_spatial(model, images(), by_brightness, steps=2, **QUIET)
    assert {len(batch) for batch in asked} == {4}
    np.testing.assert_array_equal(asked[0], prepare(images()[:4]))
    assert report.settings["masks"] == "batch"
    assert report.settings["sharpness"] == 20.0


@pytest.mark.slow
@pytest.mark.once  # what the host does; the step is the trainer's
def test_the_teacher_itself_may_say_it():
    model = perturb(vision_encoder())
    _, report = align_spatial(
        model, images(), "teacher", steps=2, feature_weight=0.0, layer=3,
        mask_ratio=0.0, **QUIET,
    )  # fmt: skip
    assert report.settings["sharpness"] is None
    # Nothing hidden: it is what its own last layer says, as far as nothing is dropped.
    assert report.whole_images["correspondence_loss"][0] == pytest.approx(0, abs=1e-5)


# === Any Keras vision transformer ===
@pytest.fixture(scope="module")
def foreign():
    """An encoder of Keras layers, aligned to its first block, and the report."""
    keras.utils.set_random_seed(0)
    model = stand_in.encoder()
    model.get_layer("block_2").trainable = False
    before = state(model)
    side = stand_in.SIDE
    encoder, report = align_spatial(
        model, images(side), shapes(side), layer=1, tasks={"kinds": kinds(side)},
        steps=STEPS, learning_rate=RATE, mask_ratio=0.5, prepare=prepare, **QUIET,
    )  # fmt: skip
    return model, before, encoder, report


def test_another_encoder_comes_near_its_layer_too(foreign):
    model, _, encoder, report = foreign
    student, teacher = LayeredEncoder(encoder, patch_size=4), LayeredEncoder(model)
    side = stand_in.SIDE
    before = likeness(teacher, teacher, 1, side)
    assert likeness(student, teacher, 1, side) > before + 0.1
    assert (
        report.whole_images["feature_loss"][1] < report.whole_images["feature_loss"][0]
    )
    assert [row.layer for row in report.after["kinds"].layers] == [1, 2, 3]


def test_another_encoder_stays_as_it_is(foreign):
    model, before, encoder, _ = foreign
    assert_same_state(before, state(model))
    assert [w.shape for w in encoder.weights] == [w.shape for w in model.weights]
    # What lies behind the last block is not trained.
    for ours, theirs in zip(
        encoder.get_layer("final").weights,
        model.get_layer("final").weights,
        strict=True,
    ):
        np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))
    assert encoder.get_layer("block_2").trainable


@pytest.mark.slow
@pytest.mark.compiled
@pytest.mark.parametrize("kind", ["dinov2", "clip"])
def test_kerashub_is_aligned(kind):
    model = stand_in.drawn(stand_in.kerashub(kind))
    before = state(model)
    encoder, report = align_spatial(
        model, images(), layer=1, tasks={"kinds": kinds()}, steps=STEPS,
        learning_rate=RATE, mask_ratio=0.5, prepare=prepare, **QUIET,
    )  # fmt: skip
    assert type(encoder) is type(model)
    assert_same_state(before, state(model))
    teacher, student = LayeredEncoder(model), LayeredEncoder(encoder)
    assert likeness(student, teacher, 1) > likeness(teacher, teacher, 1) + 0.05
    assert len(report.after["kinds"].layers) == 3
    if kind == "dinov2":
        token, other = (m.embeddings.mask_token for m in (encoder, model))
        np.testing.assert_array_equal(to_numpy(token), to_numpy(other))
        assert token.trainable


# === What makes no sense ===
@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be"),
        ({"batch_size": 0}, "batch_size must be"),
        ({"mask_ratio": 1.0}, "mask_ratio must be"),
        ({"mask_ratio": 0.01}, "hide some patches"),
        ({"image_chunk_size": 3}, "chunk size must divide"),
        ({"image_chunk_size": 0}, "image_chunk_size must be"),
        ({"sharpness": -1.0}, "sharpness must be"),
        ({"layer": 4}, "layers 0"),
        ({"layer": 0}, "nothing to teach"),
        ({"feature_weight": -1.0}, "feature_weight must be 0 or more"),
        ({"feature_weight": 0.0}, "Nothing is taught"),
        ({"masks": "shapes"}, "got 'shapes'"),
        ({"masks": shapes()[:, :8]}, "fit the images"),
        ({"masks": shapes().astype("int32") - 1}, "has the number -1"),
        ({"masks": "teacher", "images": [(images(), shapes())]}, "Batches bring masks"),
        ({"background_weight": 0.5}, "needs masks"),
        ({"feature_weight": float("nan")}, "feature_weight must be 0 or more"),
        ({"correspondence_weight": "high"}, "correspondence_weight must be 0 or"),
        ({"learning_rate": "fast"}, "learning_rate must be a number above 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a number above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be a number above 0"),
        ({"seed": -1}, "seed must be a whole number"),
        ({"seed": None}, "seed must be a whole number"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"flip": "no"}, "flip must be True or False"),
        ({"layer": [1]}, "layer must be a number"),
        ({"layer": True}, "layer must be a number"),
        ({"learning_rate": 1.0, "optimizer": keras.optimizers.SGD()}, "of its own"),
        ({"images": images(count=2).astype("float32")}, r"in \[-1, 1\]"),
        ({"images": images(side=30)}, "32x32"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(options, message):
    """And before the first sweep."""

    def unread():
        raise AssertionError("a task was read")

    arguments = {"encoder": ENCODER, "images": images(), **QUIET, **options}
    with pytest.raises(ValueError, match=message):
        align_spatial(**arguments, tasks={"kinds": Task("knn", unread)})


ENCODER = vision_encoder()


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encoder": "dinov2_base"}, "keras.Model, got str"),
        ({"tasks": {"kinds": ("knn", None)}}, "'kinds' is a tuple"),
        ({"tasks": [Task("knn", list)]}, "by their names, got a list"),
        ({"images": 3}, "got int"),
        ({"optimizer": "adamw"}, "must be a Keras optimizer.*'adamw'"),
    ],
)
def test_other_kinds_of_things_are_refused(options, message):
    with pytest.raises(TypeError, match=message):
        align_spatial(**{"encoder": ENCODER, "images": images(), **QUIET, **options})


@pytest.mark.quick
@pytest.mark.once
def test_encoders_and_optimizers_that_can_not_be_trained_are_refused():
    adapted, quantised = core(), vision_encoder()
    adapted.vision_encoder.enable_lora(2)
    quantised.quantize("int8")
    low = vision_encoder(dtype="bfloat16")
    used = keras.optimizers.SGD()
    used.build(ENCODER.trainable_variables)
    dense = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    dense.layers[0].enable_lora(1)
    for options, message in (
        ({"encoder": adapted}, "has LoRA"),
        ({"encoder": dense}, "has LoRA"),
        ({"encoder": quantised}, "is quantised"),
        ({"encoder": low}, "Weights in bfloat16"),
        ({"optimizer": used}, "SGD has been used"),
    ):
        with pytest.raises(ValueError, match=message):
            align_spatial(**{"encoder": ENCODER, "images": images(), **options})


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((images(SIDE, 4), np.arange(3)), "Task 'second': Got 4 images and 3"),
        ([images(SIDE, 4), np.arange(4)], "Task 'second': A batch is"),
        ((images(30, 4) / 127.5 - 1, np.arange(4)), "Task 'second': .*30"),
    ],
)
def test_a_second_task_that_can_not_be_run_is_told_before_the_first(data, message):
    with pytest.raises(ValueError, match=message):
        align_spatial(
            ENCODER, images(), **QUIET,
            tasks={"first": Task("knn", counted), "second": Task("knn", data)},
        )  # fmt: skip


def counted():
    """Yields a batch, and fails when it is read to its end, as a sweep does."""
    yield images(SIDE, 4) / 127.5 - 1, np.arange(4)
    raise AssertionError("the first task was swept")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [NonFiniteError, OSError, KeyboardInterrupt])
def test_errors_of_later_batches_are_what_they_were(kind):
    def batches():
        yield images(count=4) / 127.5 - 1.0
        if kind is NonFiniteError:
            yield np.full((4, SIDE, SIDE, 3), np.nan)
        raise kind("the disk is gone")

    before = state(ENCODER)
    with pytest.raises(kind, match=r"images: image \d of 4|the disk is gone"):
        align_spatial(ENCODER, batches, steps=4, **QUIET)
    assert_same_state(before, state(ENCODER))


@pytest.mark.slow
def test_training_that_ends_in_nan_says_so_and_leaves_the_encoder():
    model = perturb(vision_encoder())
    before = state(model)
    with pytest.raises(NonFiniteError, match="Step "):
        align_spatial(model, images(), learning_rate=1e30, steps=4, **QUIET)
    optimizer = keras.optimizers.SGD(1e38)
    with pytest.raises(NonFiniteError, match="is not finite after training"):
        align_spatial(model, images(), optimizer=optimizer, steps=1, **QUIET)
    with pytest.raises(NonFiniteError, match="masks of the teacher"):
        align_spatial(
            model, images(), lambda x, grid: np.full((len(x), *grid, 2), np.nan),
            steps=2, **QUIET,
        )  # fmt: skip
    assert_same_state(before, state(model))


@pytest.mark.quick
def test_the_package_hands_it_on():
    assert keras_pe.alignment.align_spatial is align_spatial
