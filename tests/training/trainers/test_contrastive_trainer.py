"""The contrastive stage: chunked towers, mask regularisation, options, errors."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe import PECore
from keras_pe.training.trainers.contrastive_trainer import (
    ContrastiveTrainer,
    caption_ids,
)
from keras_pe.training.trainers.patch_masking import kept_patches, masked_patches
from tests.small_models import (
    core,
    images,
    perturb,
    text_encoder,
    token_ids,
    vision_encoder,
)
from tests.training.gradients import loss_and_gradients

pytestmark = pytest.mark.quick
BATCH = 16


def trainer(**options):
    keras.utils.set_random_seed(0)
    return ContrastiveTrainer(perturb(core(num_layers=1)), **options)


def deeper(**options):
    """Stochastic depth never leaves out the first block of a tower."""
    keras.utils.set_random_seed(0)
    towers = (
        make(num_layers=2, drop_path=0.5) for make in (vision_encoder, text_encoder)
    )
    return ContrastiveTrainer(perturb(PECore(*towers)), **options)


def batch(masks=0):
    found = {"images": images(BATCH), "token_ids": token_ids(BATCH)}
    if masks:
        rng = np.random.default_rng(0)
        found["masked_patches"] = masked_patches(masks, (4, 4), 0.4, rng)
    return found


def assert_same(ours, theirs, tolerance=1e-5):
    (loss, gradients), (other, others) = ours, theirs
    assert loss == pytest.approx(other, rel=1e-6)
    assert list(gradients) == list(others)
    for path, gradient in gradients.items():
        # The scale's gradient is one sum over the whole matrix, of terms that cancel
        # to a hundredth: it is as exact as those terms are.
        smallest = 0.1 if path.endswith("logit_scale") else 1e-3
        largest = max(np.abs(others[path]).max(), smallest)
        error = np.abs(gradient - others[path]).max() / largest
        assert error < tolerance, path


@pytest.mark.parametrize(
    "loss", [pytest.param("softmax", marks=pytest.mark.compiled), "sigmoid"]
)
@pytest.mark.slow
def test_chunks_change_neither_loss_nor_gradient(loss):
    plain = loss_and_gradients(trainer(loss=loss), batch(), eagerly=True)
    chunked = trainer(
        loss=loss, image_chunk_size=8, text_chunk_size=4, loss_chunk_size=4
    )
    assert_same(loss_and_gradients(chunked, batch()), plain)


@pytest.mark.slow
def test_chunks_with_stochastic_depth_draw_the_same_factors():
    plain = loss_and_gradients(deeper(), batch())
    chunked = deeper(image_chunk_size=8, text_chunk_size=4)
    assert_same(loss_and_gradients(chunked, batch()), plain)
    # Nothing has moved: the next step differs by the factors that it draws.
    again = chunked.train_on_batch(batch(), return_dict=True)["loss"]
    assert abs(float(again) - plain[0]) > 1e-4


@pytest.mark.slow
def test_mask_loss_in_chunks_takes_as_many_rows_of_each():
    model = trainer(mask_weight=1.0, image_chunk_size=8)
    inputs = batch(masks=4)
    # Chunk k holds rows k, k + 2, ...; of these every fourth has a masked copy.
    rows = [0, 8, 1, 9]
    masks = inputs["masked_patches"][[0, 2, 1, 3]]
    (tokens,) = model.model.vision_encoder.layer_tokens(
        ops.convert_to_tensor(inputs["images"][rows]), [-1]
    )
    wanted = model._mask_loss(
        ops.convert_to_tensor(inputs["images"][rows]),
        tokens,
        ops.convert_to_tensor(masks),
    )
    found = model(
        {name: ops.convert_to_tensor(value) for name, value in inputs.items()},
        training=True,
    )["mask_loss"]
    assert float(found) == pytest.approx(float(wanted), rel=1e-5)


@pytest.mark.slow
@pytest.mark.compiled
def test_mask_loss_in_chunks_has_the_gradient_of_the_whole():
    inputs = batch(masks=BATCH)  # as many masked patches in every chunk
    plain = loss_and_gradients(trainer(mask_weight=1.0), inputs, eagerly=True)
    chunked = trainer(mask_weight=1.0, image_chunk_size=8)
    assert_same(loss_and_gradients(chunked, inputs), plain)


class OnlyMasks(ContrastiveTrainer):
    """The mask loss alone."""

    def _contrastive_loss(self, x, y_pred, scale):
        return 0.0 * ops.sum(ops.stop_gradient(y_pred["image_embeddings"]))


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.slow
def test_mask_loss_and_contrastive_loss_are_disjoint():
    keras.utils.set_random_seed(0)
    model = OnlyMasks(perturb(core(num_layers=1)), mask_weight=1.0)
    loss, gradients = loss_and_gradients(model, batch(masks=4))
    assert loss > 0.1
    text = [p for p in gradients if "text_encoder" in p]
    head = [p for p in gradients if "attention_pooling" in p or p.endswith("scale")]
    assert text
    assert head
    for path in [*text, *head]:
        assert np.all(gradients[path] == 0.0), path
    blocks = [p for p in gradients if "vision_encoder/block" in p and "kernel" in p]
    assert all(np.abs(gradients[path]).max() > 0.0 for path in blocks)
    assert np.abs(gradients["contrastive_trainer/mask_embedding"]).max() > 0.0

    # And the other way round: the contrastive loss does not see the masks.
    both = trainer(mask_weight=1.0)
    both.compile(keras.optimizers.SGD(0.0))
    logs = both.train_on_batch(batch(masks=4), return_dict=True)
    plain, _ = loss_and_gradients(trainer(), batch())
    assert float(logs["contrastive_loss"]) == pytest.approx(plain, rel=1e-6)


def test_nothing_masked_of_a_image_is_no_loss():
    """Masking with the patch's own embedding would be no change; a mask is one."""
    model = trainer(mask_weight=1.0)
    encoder = model.model.vision_encoder
    x = ops.convert_to_tensor(images(2))
    none = np.zeros((2, 16), bool)
    some = none.copy()
    some[:, 3] = True
    (whole,) = encoder.layer_tokens(x, [-1])
    (same,), (other,) = (
        encoder.layer_tokens(
            x,
            [-1],
            masked_patches=ops.convert_to_tensor(masks),
            mask_embedding=model.mask_embedding,
        )
        for masks in (none, some)
    )
    np.testing.assert_allclose(
        ops.convert_to_numpy(same), ops.convert_to_numpy(whole), atol=1e-6
    )
    assert np.abs(ops.convert_to_numpy(other) - ops.convert_to_numpy(whole)).max() > 0.1


@pytest.mark.slow
def test_patch_dropping_gives_the_kept_patches_alone():
    model = trainer()
    kept = kept_patches(BATCH, 16, 0.5, np.random.default_rng(0))
    inputs = {**batch(), "kept_patches": kept}
    tensors = {name: ops.convert_to_tensor(value) for name, value in inputs.items()}
    dropped = model(tensors, training=True)["image_embeddings"]
    full = model({**tensors, "kept_patches": None}, training=True)["image_embeddings"]
    assert np.abs(ops.convert_to_numpy(dropped - full)).max() > 1e-3
    everything = np.tile(np.arange(16, dtype="int32"), (BATCH, 1))
    tensors["kept_patches"] = ops.convert_to_tensor(everything)
    same = model(tensors, training=True)["image_embeddings"]
    np.testing.assert_allclose(
        ops.convert_to_numpy(same), ops.convert_to_numpy(full), atol=1e-5
    )


@pytest.mark.slow
@pytest.mark.compiled
def test_fit_reports_what_it_does():
    model = trainer(mask_weight=0.5)
    model.compile(keras.optimizers.SGD(0.01))
    logs = model.train_on_batch(batch(masks=4), return_dict=True)
    expected = logs["contrastive_loss"] + 0.5 * logs["mask_loss"]
    assert float(logs["loss"]) == pytest.approx(float(expected), rel=1e-5)
    scale = np.exp(float(ops.convert_to_numpy(trainer().model.logit_scale)))
    assert float(logs["logit_scale"]) == pytest.approx(min(scale, 100.0), rel=1e-5)


def scale_after(start, rate, steps=1, **options):
    """Returns the logarithm of the scale after steps on random pairs."""
    model = trainer(max_logit_scale=50.0)
    model.model.vision_encoder.trainable = False
    model.model.text_encoder.trainable = False
    model.model.logit_scale.assign(start)
    model.compile(keras.optimizers.SGD(rate, **options))
    for _ in range(steps):
        model.train_on_batch(batch())
    return float(ops.convert_to_numpy(model.model.logit_scale))


@pytest.mark.slow
def test_logit_scale_comes_down_from_its_limit_and_from_beyond():
    """The pairs are random: a lower scale is better, whatever the limit."""
    free = trainer(max_logit_scale=1e6)
    free.model.logit_scale.assign(np.log(50.0))
    _, whole = loss_and_gradients(free, batch())
    (path,) = [p for p in whole if p.endswith("logit_scale")]
    model = trainer(max_logit_scale=50.0)
    for start in (np.log(50.0), 10.0):
        model.model.logit_scale.assign(start)
        assert float(ops.convert_to_numpy(model.logit_scale())) == pytest.approx(50.0)
        _, gradients = loss_and_gradients(model, batch())
        assert gradients[path] == pytest.approx(whole[path], rel=1e-4)
        assert gradients[path] > 0.0
        assert scale_after(start, 0.01, steps=3) < np.log(50.0) - 1e-3


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"gradient_accumulation_steps": 2}], ids=["plain", "accumulated"]
)
def test_no_update_carries_the_logit_scale_beyond_its_limit(options):
    # Against the gradient: up.
    after = scale_after(np.log(49.9), -1.0, steps=2, **options)
    assert after == pytest.approx(np.log(50.0), abs=1e-6)


@pytest.mark.slow
def test_an_average_of_the_weights_is_not_beyond_the_limit_either():
    model = trainer(max_logit_scale=50.0)
    model.model.logit_scale.assign(np.log(50.0))
    # Upwards, and each average is made before the clamp.
    model.compile(keras.optimizers.SGD(-0.1, use_ema=True, ema_momentum=0.5))
    model.fit(batch(), batch_size=BATCH, epochs=2, verbose=0)
    found = float(ops.convert_to_numpy(model.model.logit_scale))
    assert found == pytest.approx(np.log(50.0), abs=1e-6)


def test_the_limit_is_the_models_and_the_sigmoid_loss_has_none():
    assert trainer().model.max_logit_scale == 100.0
    assert trainer(max_logit_scale=30.0).model.max_logit_scale == 30.0
    sigmoid = trainer(loss="sigmoid")
    sigmoid.model.logit_scale.assign(np.log(117.3))
    scale = float(ops.convert_to_numpy(sigmoid.logit_scale()))
    assert scale == pytest.approx(117.3, rel=1e-5)
    limited = trainer(loss="sigmoid", max_logit_scale=20.0)
    assert limited.model.max_logit_scale == 20.0


@pytest.mark.slow
@pytest.mark.compiled
def test_one_seed_gives_one_loss_on_every_backend():
    """The numbers are PyTorch's; masks and LoRA begin with draws of their own."""
    keras.utils.set_random_seed(7)
    model = ContrastiveTrainer(
        PECore(vision_encoder(), text_encoder()), mask_weight=1.0
    )
    model.model.enable_lora(2)
    model.compile(keras.optimizers.SGD(0.3))
    losses = []
    for _ in range(3):
        found = model.train_on_batch(batch(masks=4), return_dict=True)
        losses.append([float(found[k]) for k in ("contrastive_loss", "mask_loss")])
    wanted = [[6.895327, 0.7780886], [3.110077, 0.6600245], [2.356054, 0.6170363]]
    np.testing.assert_allclose(losses, wanted, rtol=1e-5)


@pytest.mark.slow
def test_duplicates_can_be_ignored():
    inputs = batch()
    inputs["token_ids"][1] = inputs["token_ids"][0]
    negative, _ = loss_and_gradients(trainer(), inputs)
    ignored, _ = loss_and_gradients(trainer(duplicates="ignore"), inputs)
    assert ignored < negative


def test_caption_ids_tell_captions_apart():
    ids = np.unique(token_ids(200, 8), axis=0)
    numbers = ops.convert_to_numpy(caption_ids(ops.convert_to_tensor(ids)))
    assert numbers.dtype == np.int32
    assert len(np.unique(numbers)) == len(ids)
    again = ops.convert_to_numpy(caption_ids(ops.convert_to_tensor(ids[::-1].copy())))
    np.testing.assert_array_equal(numbers[::-1], again)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_logit_scale": 0.5}, "above 1"),
        ({"loss": "hinge"}, "softmax"),
        ({"duplicates": "drop"}, "ignore"),
        ({"mask_positions": "some"}, "mask_positions"),
        ({"mask_weight": -1.0}, "0 or more"),
        ({"mask_weight": float("nan")}, "0 or more"),
        ({"image_chunk_size": 0}, "image_chunk_size must be a whole number"),
        ({"text_chunk_size": 2.5}, "text_chunk_size must be a whole number"),
        ({"loss_chunk_size": float("nan")}, "loss_chunk_size must be a whole"),
        ({"loss_chunk_size": True}, "loss_chunk_size must be a whole"),
    ],
)
def test_options_that_make_no_sense(options, message):
    with pytest.raises(ValueError, match=message):
        trainer(**options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "extra", "message"),
    [
        ({"mask_weight": 1.0}, {}, "needs masks"),
        ({"image_chunk_size": 5}, {}, "divisor of 16"),
        (
            {"mask_weight": 1.0, "image_chunk_size": 2},
            {"masked_patches": np.zeros((4, 16), bool)},
            "4 rows of masks for 8 chunks",
        ),
        (
            {"mask_weight": 1.0},
            {"masked_patches": np.zeros((3, 16), bool)},
            "must divide the batch",
        ),
        (
            {"mask_weight": 1.0},
            {"masked_patches": np.zeros((0, 16), bool)},
            "A sixteenth of a batch below 16 is none",
        ),
        ({}, {"masked_patches": np.zeros((4, 16), bool)}, "but mask_weight=0"),
        (
            {"mask_weight": 1.0},
            {"masked_patch": np.zeros((4, 16), bool)},
            "Did you mean masked_patches",
        ),
        ({}, {"captions": np.zeros(16)}, "'captions', which nothing reads"),
    ],
)
def test_batches_that_do_not_fit(options, extra, message):
    tensors = {k: ops.convert_to_tensor(v) for k, v in {**batch(), **extra}.items()}
    with pytest.raises(ValueError, match=message):
        trainer(**options)(tensors, training=True)
