"""SAM's masks by patches: each point alone, all at once, and in a step."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe import PESpatial
from keras_pe.training import SamTeacher, SpatialAlignmentTrainer
from keras_pe.training.teachers.sam import point_logits
from keras_pe.training.teachers.sam_cost import SamSize, encoder_flops, sam_flops
from tests.arrays import to_numpy
from tests.small_models import images, perturb, vision_encoder

BACKEND = keras.backend.backend()
SIDE, MAP = 32, 8  # pixels of the images and masks of the stand-in
QUALITY = np.array([0.9, 0.1, 0.2, 0.8], "float32")


class StandIn:
    """Masks that are easy to tell, in the layout of KerasHub's `SAMBackbone`.

    Those of a point are squares around it, each of another size, on top of the image's
    mean brightness; `QUALITY` says which one is the best.
    """

    def __init__(self, radii=(8.0, 0.0, 4.0, 16.0)):
        self.image_encoder, self.mask_decoder = Encoder(), Decoder(radii)

    def prompt_encoder(self, points, labels, boxes, masks):
        assert points.shape[1:] == (2, 2)
        return {"points": points[:, 0]}


class Encoder(keras.Layer):
    input = keras.Input((SIDE, SIDE, 3))

    def __init__(self):
        super().__init__()
        self.bias = self.add_weight(shape=(), initializer="zeros", name="bias")

    def call(self, images):
        return ops.mean(images, (1, 2, 3), keepdims=True) + self.bias


class Decoder:
    built = True

    def __init__(self, radii):
        self.radii, self.num_mask_tokens = radii, len(radii)

    def __call__(self, image_embeddings, points):
        assert image_embeddings.shape[0] == 1
        middles = (ops.arange(MAP, dtype="float32") + 0.5) * SIDE / MAP
        x, y = (points[:, i, None, None, None] for i in (0, 1))
        far = ops.maximum(abs(middles[:, None] - y), abs(middles - x))
        radii = ops.convert_to_tensor(self.radii, "float32")[:, None, None]
        quality = ops.tile(QUALITY[None], (points.shape[0], 1))
        return {"masks": radii - far + image_embeddings, "iou_pred": quality}


def squares(points, radius, brightness=0.0):
    """Returns the masks of `StandIn`, `(MAP, MAP, points * points)`."""
    middles = (np.arange(points) + 0.5) * SIDE / points
    pixels = (np.arange(MAP) + 0.5) * SIDE / MAP
    across = abs(pixels[:, None] - middles)
    far = np.maximum(across[:, None, :, None], across[None, :, None, :])
    return (radius - far + brightness).reshape(MAP, MAP, points**2)


@pytest.mark.quick
@pytest.mark.parametrize("chunk", [1, 4, 16, 64])
@pytest.mark.parametrize("grid", [(8, 8), (4, 2), (3, 5)])
def test_patches_have_the_mean_of_each_points_mask(grid, chunk):
    x = images(3, SIDE, SIDE)
    found = to_numpy(SamTeacher(StandIn(), points=4, chunk=chunk)(x, grid))
    assert found.shape == (3, *grid, 16)
    for image, masks in zip(x, found, strict=True):
        # Cut finely enough that each patch holds whole pixels.
        fine = squares(4, 8.0, (image.mean() + 1) / 2).repeat(15, 0).repeat(15, 1)
        down, across = 8 * 15 // grid[0], 8 * 15 // grid[1]
        wanted = fine.reshape(grid[0], down, grid[1], across, 16).mean((1, 3))
        np.testing.assert_allclose(masks, wanted, atol=1e-4)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("keep", "radius"), [(0, 8.0), (1, 0.0), (3, 16.0), ("best", 16.0)]
)
def test_which_mask_of_a_point_is_kept(keep, radius):
    black = -np.ones((1, SIDE, SIDE, 3), "float32")
    teacher = SamTeacher(StandIn(), points=2, keep=keep)
    found = to_numpy(teacher(black, (MAP, MAP)))[0]
    np.testing.assert_allclose(found, squares(2, radius), atol=1e-4)


@pytest.mark.quick
def test_the_smallest_mask_is_not_an_empty_one():
    black = -np.ones((1, SIDE, SIDE, 3), "float32")
    teacher = SamTeacher(StandIn(radii=(1.0, 16.0, -8.0, 4.0)), 2, keep="smallest")
    found = to_numpy(teacher(black, (MAP, MAP)))[0]
    np.testing.assert_allclose(found, squares(2, 4.0), atol=1e-4)


@pytest.mark.quick
def test_images_are_what_the_preset_says():
    converter = types.SimpleNamespace(scale=[2 / 255, 0.0, 0.0], offset=[3.0, 0.0, 0.0])
    preprocessor = types.SimpleNamespace(image_converter=converter)
    sam = types.SimpleNamespace(backbone=StandIn(), preprocessor=preprocessor)
    white = np.ones((1, 16, 16, 3), "float32")
    found = to_numpy(SamTeacher(sam, points=2)(white, (MAP, MAP)))[0]
    np.testing.assert_allclose(found, squares(2, 8.0, (2 + 3) / 3), atol=1e-4)


@pytest.mark.quick
def test_it_is_frozen_and_its_weights_are_read_anew():
    sam = StandIn()
    teacher = SamTeacher(sam, points=2)
    (model,) = teacher.models
    assert model.variables == sam.image_encoder.variables
    assert not sam.image_encoder.trainable_variables
    before = to_numpy(teacher(images(1, SIDE, SIDE), (2, 2)))
    sam.image_encoder.bias.assign(1.0)
    after = to_numpy(teacher(images(1, SIDE, SIDE), (2, 2)))
    np.testing.assert_allclose(after, before + 1.0, rtol=1e-5)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"points": 0}, "points"),
        ({"chunk": 0}, "chunk"),
        ({"keep": 4}, "keep must be 0 to 3"),
        ({"keep": "largest"}, "keep must be 0 to 3"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SamTeacher(StandIn(), **options)


@pytest.mark.quick
def test_other_models_are_refused():
    with pytest.raises(TypeError, match="got PEVisionEncoder"):
        SamTeacher(vision_encoder())
    without = StandIn()
    without.mask_decoder.built = False
    with pytest.raises(ValueError, match="has no weights yet"):
        SamTeacher(without)


@pytest.mark.slow
def test_in_a_step_it_is_what_mask_rows_are():
    """Compiled along, on JAX and TensorFlow."""
    keras.utils.set_random_seed(0)
    core = perturb(vision_encoder())
    data = {"images": images(4), "masked_patches": np.zeros((4, 16), bool)}
    teacher = SamTeacher(StandIn(), points=3, chunk=4)
    rows = to_numpy(teacher(data["images"], (4, 4))).reshape(4, 16, 9)
    losses = []
    for mask_teacher, extra in (("batch", {"mask_rows": rows}), (teacher, {})):
        trainer = SpatialAlignmentTrainer(
            PESpatial.from_core(core, drop_path=0.0), mask_teacher=mask_teacher
        )
        trainer.compile(keras.optimizers.SGD(1e-3))
        logs = trainer.train_on_batch({**data, **extra}, return_dict=True)
        losses.append(float(logs["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# === KerasHub's own ===
AGREED = [  # PyTorch's
    *(-0.321040, -0.322376, -0.321118, -0.320637, -0.322361),
    *(-0.321511, -0.320314, -0.321464, -0.321245),
]


@pytest.fixture(scope="module")
def segmenter():
    """A small one with weights that any backend draws alike."""
    hub = pytest.importorskip("keras_hub")
    size = 64
    backbone = hub.models.SAMBackbone(
        image_encoder=hub.models.ViTDetBackbone(
            hidden_size=16,
            num_layers=2,
            intermediate_dim=32,
            num_heads=2,
            global_attention_layer_indices=[1],
            patch_size=16,
            num_output_channels=16,
            window_size=2,
            image_shape=(size, size, 3),
        ),
        prompt_encoder=hub.layers.SAMPromptEncoder(
            hidden_size=16,
            image_embedding_size=(4, 4),
            input_image_size=(size, size),
            mask_in_channels=16,
        ),
        mask_decoder=hub.layers.SAMMaskDecoder(
            num_layers=2,
            hidden_size=16,
            intermediate_dim=32,
            num_heads=2,
            embedding_dim=16,
            num_multimask_outputs=3,
            iou_head_depth=3,
            iou_head_hidden_dim=8,
        ),
    )
    model = hub.models.SAMImageSegmenter(
        backbone,
        hub.models.SAMImageSegmenterPreprocessor(
            hub.layers.SAMImageConverter(image_size=(size, size), scale=1 / 255)
        ),
    )
    rng = np.random.default_rng(0)
    encoder = backbone.image_encoder
    of_neck = {id(weight) for weight in encoder.neck.weights}  # first or last of all
    weights = sorted(encoder.weights, key=lambda weight: id(weight) in of_neck)
    weights += backbone.prompt_encoder.weights + backbone.mask_decoder.weights
    for weight in weights:
        weight.assign(0.3 * rng.standard_normal(weight.shape))
    return model


def one_at_a_time(segmenter, image, points):
    """Returns the masks `(points, 4, 16, 16)` of whole calls, and their quality."""
    found = []
    for y, x in np.ndindex(points, points):
        prompt = [(np.array([x, y]) + 0.5) * 64 / points, [0.0, 0.0]]
        inputs = {
            "images": (image[None] + 1) / 2,
            "points": np.float32([prompt]),
            "labels": np.float32([[1, -1]]),
            "boxes": np.zeros((1, 0, 2, 2), "float32"),
            "masks": np.zeros((1, 0, 16, 16, 1), "float32"),
        }
        found.append(segmenter(inputs))
    return [
        np.concatenate([to_numpy(f[key]) for f in found])
        for key in ("masks", "iou_pred")
    ]


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 2, "best", "smallest"])
def test_kerashub_gives_the_same_one_prompt_at_a_time(segmenter, keep):
    x = images(2, 64, 64)
    teacher = SamTeacher(segmenter, points=3, chunk=4, keep=keep)
    found = to_numpy(teacher(x, (4, 4)))
    for image, taught in zip(x, found, strict=True):
        logits, quality = one_at_a_time(segmenter, image, 3)
        if keep == "best":
            pairs = zip(logits, quality[:, 1:], strict=True)
            kept = [masks[1 + np.argmax(q)] for masks, q in pairs]
        elif keep == "smallest":
            areas = (logits[:, 1:] > 0).sum((2, 3)).astype(float)
            areas[areas == 0] = np.inf
            pairs = zip(logits, areas, strict=True)
            kept = [masks[1 + np.argmin(area)] for masks, area in pairs]
        else:
            kept = logits[:, keep]
        wanted = np.reshape(kept, (9, 4, 4, 4, 4)).mean((2, 4)).transpose(1, 2, 0)
        assert np.abs(taught - wanted).max() < 1e-5


@pytest.mark.slow
def test_logits_of_a_chunk_are_those_of_each_point(segmenter):
    image = images(1, 64, 64)
    points = np.random.default_rng(1).uniform(0, 64, (5, 2)).astype("float32")
    backbone = segmenter.backbone
    encoded = backbone.image_encoder((image + 1) / 2)
    together, _ = point_logits(backbone, encoded, ops.convert_to_tensor(points))
    together = to_numpy(together)
    assert together.shape == (5, 4, 16, 16)
    for number in range(5):
        point = ops.convert_to_tensor(points[number : number + 1])
        alone = to_numpy(point_logits(backbone, encoded, point)[0])
        assert np.abs(alone[0] - together[number]).max() < 1e-5


@pytest.mark.slow
def test_all_of_it_is_frozen(segmenter):
    (sam,) = SamTeacher(segmenter).models
    assert not segmenter.trainable_variables
    assert {id(w) for w in segmenter.weights} == {id(w) for w in sam.weights}


@pytest.mark.slow
def test_backends_agree(segmenter):
    teacher = SamTeacher(segmenter, points=3, chunk=4)
    found = to_numpy(teacher(images(1, 64, 64), (4, 4)))
    np.testing.assert_allclose(found[0, 1, 2], AGREED, atol=1e-5)


@pytest.mark.slow
def test_kerashub_in_a_step(segmenter):
    keras.utils.set_random_seed(0)
    core = perturb(vision_encoder())
    data = {"images": images(2), "masked_patches": np.zeros((2, 16), bool)}
    losses = []
    for optimized in (True, False):
        trainer = SpatialAlignmentTrainer(
            PESpatial.from_core(core, drop_path=0.0),
            mask_teacher=SamTeacher(segmenter, points=3, chunk=4),
        )
        trainer.compile(keras.optimizers.SGD(1e-3), run_eagerly=not optimized)
        logs = trainer.train_on_batch(data, return_dict=True)
        losses.append(float(logs["loss"]))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="PyTorch can count what it runs")
def test_operations_are_those_that_pytorch_counts(segmenter):
    from torch.utils.flop_counter import FlopCounterMode

    size = SamSize(
        *(16, 2, 2),
        global_layers=1,
        image_size=64,
        window=2,
        intermediate_dim=32,
        decoder_dim=16,
        decoder_intermediate_dim=32,
        quality_dim=8,
    )

    def counted(call):
        with FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()

    x = images(1, 64, 64)
    found = counted(lambda: segmenter.backbone.image_encoder(x))
    assert found == encoder_flops(size)
    teacher = SamTeacher(segmenter, points=3, chunk=4)
    found = counted(lambda: teacher(x, (4, 2)))
    # Positions of the points, once a chunk, are left out.
    assert found == pytest.approx(sam_flops(size, 3, (4, 2)), rel=0.02)
