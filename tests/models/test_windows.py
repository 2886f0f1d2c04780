"""Windowed attention against a loop over windows, and what it must equal exactly."""

import keras
import numpy as np
import pytest
from keras import ops

import keras_pe
from keras_pe.layers.attention import rotary_table
from keras_pe.layers.patch_embedding import PatchEmbedding, tile_positions
from keras_pe.layers.windows import Windows
from keras_pe.models.tower import resolve_layers
from tests.arrays import to_numpy
from tests.models.squared_output import SquaredOutput
from tests.small_models import images, perturb, vision_encoder
from tests.training.gradients import loss_and_gradients

pytestmark = pytest.mark.slow
WINDOWED = {"window_size": 4, "global_blocks": (2,)}


def copy_of(encoder, **changes):
    """Returns an encoder of the same weights and other arguments."""
    config = {**encoder.get_config(), **changes}
    other = keras_pe.PEVisionEncoder.from_config(config)
    other.set_weights(encoder.get_weights())
    return other


class SlowEncoder(keras_pe.PEVisionEncoder):
    """Cuts out one window after the other; no padding, no mask, nothing batched."""

    def layer_tokens(
        self, images, layers, kept_patches=None, drop_path_factors=None, training=None
    ):
        layers = resolve_layers(tuple(layers), self.num_layers)
        rows, columns = self.patch_embedding.grid(images.shape)
        x = self.pre_norm(self.patch_embedding(images))
        first = int(self.class_token)
        places = [
            [
                first + row * columns + column
                for row in range(top, min(top + self.window_size, rows))
                for column in range(left, min(left + self.window_size, columns))
            ]
            for top in range(0, rows, self.window_size)
            for left in range(0, columns, self.window_size)
        ]
        back = np.argsort(np.concatenate(places))
        patches = [ops.take(x, np.array(window), axis=1) for window in places]
        tokens = [x[:, :first]] * len(places)  # one class token for each window

        def joined():
            share = [len(window) / (rows * columns) for window in places]
            token = sum(t * s for t, s in zip(tokens, share, strict=True))
            return ops.concatenate(
                [token, ops.take(ops.concatenate(patches, axis=1), back, axis=1)], 1
            )

        found = {0: joined()} if 0 in layers else {}
        for number, block in enumerate(self.blocks[: max(layers)], start=1):
            factors = drop_path_factors
            drop_path = None if factors is None else factors[number - 1]
            if number in self.global_blocks:
                rotary = self.rotary((rows, columns))
                x = block(joined(), rotary=rotary, drop_path=drop_path)
                patches = [ops.take(x, np.array(window), axis=1) for window in places]
                tokens = [x[:, :first]] * len(places)
            else:
                for i, window in enumerate(places):
                    shape = self._shape(window, columns, first)
                    x = ops.concatenate([tokens[i], patches[i]], axis=1)
                    x = block(x, rotary=self._part(shape), drop_path=drop_path)
                    tokens[i], patches[i] = x[:, :first], x[:, first:]
            if number in layers:
                found[number] = joined()
        return [found[number] for number in layers]

    def _shape(self, window, columns, first):
        width = len({(place - first) % columns for place in window})
        return len(window) // width, width

    def _part(self, shape):
        """The positions of a window, of which those at an edge have a part."""
        if not self.rope:
            return None
        side, first = self.window_size, int(self.class_token)
        table = rotary_table((side, side), self.head_dim, class_token=self.class_token)
        keep = [*range(first)]
        keep += [first + r * side + c for r in range(shape[0]) for c in range(shape[1])]
        return tuple(ops.convert_to_tensor(part[keep]) for part in table)


# Grids of patches of 8 pixels: windows divide the first, the second needs filling up.
@pytest.mark.parametrize(("size", "class_token"), [((64, 32), False), ((40, 40), True)])
@pytest.mark.slow
def test_equals_a_loop_over_windows(size, class_token):
    encoder = perturb(vision_encoder(**WINDOWED, class_token=class_token))
    slow = SlowEncoder.from_config(encoder.get_config())
    slow.set_weights(encoder.get_weights())
    arguments = {"layers": [0, 1, 2, 3], "class_token": class_token}
    found = encoder.features(images(2, *size), **arguments)
    expected = slow.features(images(2, *size), **arguments)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            to_numpy(ours.values), to_numpy(theirs.values), atol=2e-4
        )


class Squared(SquaredOutput):
    """Trains an encoder on the squared output, with stochastic depth by hand."""

    def call(self, inputs, training=None):
        factors = np.full((2, 2, 2, 1, 1), 2.0, "float32")
        factors[0, 0, 1] = factors[1, 1, 0] = 0.0
        (tokens,) = self.model.layer_tokens(
            inputs["images"],
            [-1],
            drop_path_factors=ops.convert_to_tensor(factors),
            training=training,
        )
        return self.model.head(tokens)


@pytest.mark.slow
def test_gradients_equal_a_loop_over_windows():
    """Filled-up windows, rematerialised, with stochastic depth, against none of it."""
    arguments = {"num_layers": 2, "window_size": 4, "global_blocks": (2,)}
    encoder = perturb(vision_encoder(**arguments, pooling="average", remat=True))
    slow = SlowEncoder.from_config({**encoder.get_config(), "remat": False})
    slow.set_weights(encoder.get_weights())
    x = {"images": images(2, 40, 40)}
    loss, gradients = loss_and_gradients(Squared(encoder), x)
    expected, references = loss_and_gradients(Squared(slow), x)
    assert loss == pytest.approx(expected, rel=1e-4)
    pairs = zip(gradients.values(), references.values(), strict=True)
    for gradient, reference in pairs:
        scale = np.abs(reference).max() + 1e-6
        np.testing.assert_allclose(gradient / scale, reference / scale, atol=2e-4)


def test_full_attention_where_one_window_or_global_blocks_cover_all():
    encoder = perturb(vision_encoder(rope_reference_grid=4))
    x = images(2, 16, 24)
    expected = to_numpy(encoder.encode(x))
    for changes in (
        {"window_size": 4},
        {"window_size": 2, "global_blocks": (1, 2, -1)},
    ):
        windowed = copy_of(encoder, **changes)
        np.testing.assert_array_equal(to_numpy(windowed.encode(x)), expected)
    assert windowed.global_blocks == (1, 2, 3)


def test_windows_alone_equal_the_encoder_on_images_cut_out():
    """The paper's frozen detection: the input is tiled, nothing is global."""
    plain = perturb(vision_encoder())
    tiled = copy_of(plain, window_size=4, tiled_positions=True)
    image = images(1, 32, 80)  # two windows and half of one
    cut = np.concatenate([image[:, :, :32], image[:, :, 32:64]])
    found = tiled.features(image, class_token=True)
    whole = plain.features(cut, class_token=True)
    half = tiled.features(image[:, :, 64:], class_token=True)  # one window
    expected = np.concatenate([*to_numpy(whole.map()), *to_numpy(half.map())], axis=1)
    np.testing.assert_allclose(to_numpy(found.map())[0], expected, atol=1e-4)
    # The class token is the mean of its copies, weighted by the patches of each.
    left, right = to_numpy(whole.values)[:, 0]
    token = (2 * left + 2 * right + to_numpy(half.values)[0, 0]) / 5
    np.testing.assert_allclose(to_numpy(found.values)[0, 0], token, atol=1e-4)


def test_filling_up_is_not_seen():
    encoder = perturb(vision_encoder(window_size=4))
    x = images(1, 40, 40)
    before = to_numpy(encoder.features(x).map())
    assert np.isfinite(before).all()
    changed = x.copy()
    changed[:, 32:, 32:] = 0.9  # the corner: a window of one patch
    after = to_numpy(encoder.features(changed).map())
    assert not np.allclose(before[:, 4, 4], after[:, 4, 4], atol=1e-3)
    after[:, 4, 4] = before[:, 4, 4]
    np.testing.assert_allclose(before, after, atol=1e-5)


@pytest.mark.parametrize(("grid", "class_token"), [((5, 7), True), ((4, 3), False)])
def test_partition_and_back(grid, class_token):
    windows = Windows(grid, (2, 3), class_token)
    tokens = grid[0] * grid[1] + int(class_token)
    x = np.random.default_rng(0).normal(size=(2, tokens, 5)).astype("float32")
    cut = windows.partition(ops.convert_to_tensor(x))
    assert tuple(cut.shape) == (2 * windows.count, 6 + int(class_token), 5)
    np.testing.assert_allclose(to_numpy(windows.merge(cut)), x, atol=1e-6)
    mask = windows.padding_mask(cut)
    if grid == (4, 3):
        assert mask is None
    else:
        assert tuple(mask.shape) == (2 * 9, 1, 1, 7)
        seen = to_numpy(mask)[:9, 0, 0]
        assert seen[:, 0].all()  # every copy of the class token
        assert seen[:, 1:].sum(axis=1).tolist() == [6, 6, 2, 6, 6, 2, 3, 3, 1]
        np.testing.assert_array_equal(seen, to_numpy(mask)[9:, 0, 0])


def test_windows_come_row_by_row():
    x = np.arange(24.0, dtype="float32").reshape(1, 24, 1)
    cut = to_numpy(Windows((4, 6), (2, 3), False).partition(ops.convert_to_tensor(x)))
    np.testing.assert_array_equal(cut[0, :, 0], [0, 1, 2, 6, 7, 8])
    np.testing.assert_array_equal(cut[1, :, 0], [3, 4, 5, 9, 10, 11])
    np.testing.assert_array_equal(cut[2, :, 0], [12, 13, 14, 18, 19, 20])


def test_tiled_positions():
    layer = PatchEmbedding(8, 6, (2, 2), class_token=True, tiled_positions=True)
    layer.build((None, 16, 16, 3))
    table = to_numpy(layer.position_embedding)
    found = to_numpy(layer.positions((3, 5)))
    np.testing.assert_array_equal(found[0], table[0])
    for row in range(3):
        for column in range(5):
            np.testing.assert_array_equal(
                found[1 + 5 * row + column], table[1 + 2 * (row % 2) + column % 2]
            )
    again = PatchEmbedding.from_config(layer.get_config())
    assert again.tiled_positions
    ours = ops.convert_to_tensor(table[1:])
    np.testing.assert_array_equal(
        to_numpy(tile_positions(ours, (2, 2), (1, 2))), table[1:3]
    )


def test_global_blocks_scale_positions_to_the_reference_grid():
    """As upstream's detectors: whole steps in windows, fractions in global blocks."""
    encoder = vision_encoder(**WINDOWED, rope_reference_grid=4, class_token=False)
    windowed = encoder._windowed_blocks((8, 8))
    native = rotary_table((4, 4), encoder.head_dim, class_token=False)
    np.testing.assert_allclose(to_numpy(windowed.rotary[0]), native[0], atol=1e-6)
    whole = to_numpy(encoder.rotary((8, 8))[0]).reshape(8, 8, -1)
    np.testing.assert_allclose(whole[::2, ::2], native[0].reshape(4, 4, -1), atol=1e-6)
    assert windowed.numbers == {1, 3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window_size": 0}, "at least 1"),
        ({"global_blocks": (1,)}, "need a window_size"),
        ({"tiled_positions": True}, "need a window_size"),
        ({"window_size": 2, "tiled_positions": True}, "window_size must be 4"),
        ({"window_size": 4, "global_blocks": (0,)}, "add 1"),
        ({"window_size": 4, "global_blocks": (4,)}, "got 4"),
    ],
)
def test_windows_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        vision_encoder(**changes)


def test_kept_patches_need_a_whole_image():
    encoder = vision_encoder(window_size=4)
    with pytest.raises(ValueError, match="without windows"):
        encoder(images(), kept_patches=np.zeros((2, 3), "int32"))


def test_configuration():
    plain = vision_encoder()
    assert "window_size" not in plain.get_config()  # as before windows were known
    encoder = vision_encoder(**WINDOWED, tiled_positions=True)
    copy = keras_pe.PEVisionEncoder.from_config(encoder.get_config())
    assert copy.get_config() == encoder.get_config()
    assert copy.global_blocks == (2,)
    assert copy.tiled_positions


@pytest.mark.slow
def test_saved_encoders_keep_windows(tmp_path):
    encoder = perturb(vision_encoder(**WINDOWED, tiled_positions=True))
    encoder.save_to_preset(tmp_path / "preset")
    encoder.save(tmp_path / "encoder.keras")
    for copy in (
        keras_pe.PEVisionEncoder.from_preset(str(tmp_path / "preset")),
        keras.saving.load_model(tmp_path / "encoder.keras"),
    ):
        assert copy.get_config() == encoder.get_config()
        assert copy.patch_embedding.tiled_positions
        for ours, theirs in zip(encoder.weights, copy.weights, strict=True):
            np.testing.assert_array_equal(to_numpy(ours), to_numpy(theirs))


def test_truncation_keeps_the_windows_of_what_stays():
    encoder = perturb(vision_encoder(window_size=2, global_blocks=(1, 3)))
    small = encoder.truncate(2)
    assert small.window_size == 2
    assert small.global_blocks == (1,)
    np.testing.assert_allclose(
        to_numpy(small.encode(images())),
        to_numpy(encoder.features(images(), layers=2, class_token=True).values),
        atol=1e-5,
    )
