"""The small decoder: causal, equal with a cache, and packed as apart."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_pe.language import SmallDecoder
from tests.arrays import to_numpy
from tests.small_models import perturb

pytestmark = pytest.mark.quick

WORDS, TOKENS = 50, 7


def decoder(**changes):
    options = {"hidden_dim": 16, "num_layers": 2, "num_heads": 2, "max_length": 12}
    options = {"vocabulary_size": WORDS, **options, **changes}
    return perturb(SmallDecoder(**options))


def embeddings(rows=2, tokens=TOKENS, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, tokens, 16)).astype("float32")


def test_a_token_sees_those_before_it_alone():
    model, x = decoder(), embeddings()
    other = x.copy()
    other[:, 4] *= -1.0  # not another mean: norms take that away
    before, after = to_numpy(model.run(x)), to_numpy(model.run(other))
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert (np.abs(before - after)[:, 4:].max(axis=(0, 2)) > 1e-3).all()


@pytest.mark.parametrize(
    "rows", [2, *(pytest.param(rows, marks=pytest.mark.once) for rows in (1, 3))]
)
@pytest.mark.parametrize("as_tensor", [False, True])
def test_with_a_cache_it_gives_the_same(rows, as_tensor):
    model, x = decoder(), embeddings(rows)
    whole = to_numpy(model.run(x))
    caches = model.new_caches(rows, 9)
    pieces = []
    for start, stop in ((0, 4), (4, 5), (5, 7)):
        index = ops.convert_to_tensor(start, "int32") if as_tensor else start
        found, caches = model.run_cached(x[:, start:stop], caches, index)
        pieces.append(to_numpy(found))
    np.testing.assert_allclose(np.concatenate(pieces, 1), whole, atol=2e-6)


def test_documents_in_one_row_are_as_apart():
    model = decoder()
    first, second = embeddings(1, 3, seed=1), embeddings(1, 4, seed=2)
    packed = np.concatenate([first, second], axis=1)
    found = to_numpy(
        model.run(
            packed,
            positions=np.array([[0, 1, 2, 0, 1, 2, 3]]),
            documents=np.array([[1, 1, 1, 2, 2, 2, 2]]),
        )
    )
    np.testing.assert_allclose(found[:, :3], to_numpy(model.run(first)), atol=2e-6)
    np.testing.assert_allclose(found[:, 3:], to_numpy(model.run(second)), atol=2e-6)
    # Places decide: without them the second document would begin at the third.
    moved = to_numpy(model.run(packed, documents=np.array([[1, 1, 1, 2, 2, 2, 2]])))
    np.testing.assert_allclose(moved[:, 3:], found[:, 3:], atol=1e-5)  # only relative
    alone = to_numpy(model.run(packed))
    assert np.abs(alone - found)[:, 3:].max() > 1e-3


def test_another_document_changes_nothing_at_all():
    model = decoder()
    places = {
        "positions": np.array([[0, 1, 2, 0, 1, 2, 3]]),
        "documents": np.array([[1, 1, 1, 2, 2, 2, 0]]),  # the last one is padding
    }
    x = embeddings(1)
    other = x.copy()
    other[:, [0, 1, 2, 6]] *= -3.0
    one, two = (to_numpy(model.run(each, **places)) for each in (x, other))
    np.testing.assert_array_equal(one[:, 3:6], two[:, 3:6])
    assert np.isfinite(two).all()


def test_logits_are_products_with_the_embedding():
    model, x = decoder(), embeddings()
    hidden = model.run(x)
    table = to_numpy(model.embed(np.arange(WORDS)[None]))[0]
    found = to_numpy(model.logits(hidden))
    np.testing.assert_allclose(found, to_numpy(hidden) @ table.T, atol=1e-5)


@pytest.mark.once
def test_it_has_the_size_that_is_said():
    assert 5e6 < SmallDecoder(6000).count_params() < 10e6


@pytest.mark.once
def test_it_is_made_again_of_its_configuration():
    model = decoder(layer_scale=0.1, drop_path=0.1)
    twin = SmallDecoder.from_config(model.get_config())
    assert twin.get_config() == model.get_config()
    assert [w.shape for w in twin.weights] == [w.shape for w in model.weights]


@pytest.mark.parametrize(
    ("places", "says"),
    [
        ({"positions": [[0, 1, 12]]}, "positions from 0 to 11, got 12 at .0, 2"),
        ({"positions": [[0, 1, -1]]}, "positions from 0 to 11, got -1 at .0, 2"),
        ({"positions": [[0, 1]]}, "positions must be one a token"),
        ({"documents": [[1, 1]]}, "documents must be one a token"),
    ],
)
def test_places_that_do_not_exist_are_refused(places, says):
    model = decoder()
    given = {name: np.array(value, "int32") for name, value in places.items()}
    with pytest.raises(ValueError, match=says):
        model.run(embeddings(1, 3), **given)


@pytest.mark.parametrize(
    "ids", [np.array([[1.5]]), np.array([["a"]]), [[1, 2]], np.array([[True]])]
)
def test_ids_that_are_no_whole_numbers_are_refused_and_not_cut(ids):
    with pytest.raises(ValueError, match="embeds an array of token ids, whole number"):
        decoder().embed(ids)


@pytest.mark.once
def test_sizes_of_nothing_are_refused():
    with pytest.raises(ValueError, match=r"Expected embeddings .* got \(1, 0, "):
        decoder().run(embeddings(1, 3)[:, :0])
    with pytest.raises(ValueError, match="intermediate_dim must be"):
        SmallDecoder(60, hidden_dim=16, num_heads=2, intermediate_dim=0)


@pytest.mark.once
def test_what_does_not_fit_is_refused():
    model = decoder()
    with pytest.raises(ValueError, match="at most 12 tokens, got 13"):
        model.run(embeddings(1, 13))
    with pytest.raises(ValueError, match="at most 12 tokens, got 13 in a cache"):
        model.new_caches(1, 13)
    with pytest.raises(ValueError, match="embeddings"):
        model.run(np.zeros((1, 3, 8), "float32"))
    with pytest.raises(ValueError, match=r"0 to 49, got 50 at \[0, 1\]"):
        model.embed(np.array([[1, WORDS]]))
    for index in (-1, 7):
        with pytest.raises(ValueError, match="cache of 9 tokens can't take 3"):
            model.run_cached(embeddings(1, 3), model.new_caches(1, 9), index)
    with pytest.raises(ValueError, match="must be even"):
        decoder(hidden_dim=6)


def test_half_precision_stays_near():
    keras.utils.set_random_seed(0)
    full, half = decoder(), decoder(dtype="mixed_bfloat16")
    x = embeddings()
    found = to_numpy(ops.cast(half.run(x), "float32"))
    assert np.abs(found - to_numpy(full.run(x))).max() < 0.1
