"""A transformer that scikit-learn takes for one of its own."""

import pickle

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn comes with the test extra")
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_checks

from keras_pe import Embedder, PEImageConverter, PETokenizer
from keras_pe.sklearn import PETransformer
from tests.small_models import core, perturb

pytestmark = pytest.mark.quick


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("transformer") / "preset"
    perturb(core()).save_to_preset(folder, PETokenizer(8, 600), PEImageConverter(32))
    return str(folder)


# Those of scikit-learn's own checks that give it no table of numbers.
CHECKS = (
    "check_do_not_raise_errors_in_init_or_set_params",
    "check_estimator_cloneable",
    "check_estimator_repr",
    "check_estimator_tags_renamed",
    "check_get_params_invariance",
    "check_mixin_order",
    "check_no_attributes_set_in_init",
    "check_parameters_default_constructible",
    "check_set_params",
    "check_valid_tag_types",
)


@pytest.mark.once
@pytest.mark.parametrize("check", CHECKS)
def test_their_checks(check):
    getattr(estimator_checks, check)("PETransformer", PETransformer())


def test_it_gives_what_the_embedder_gives(preset):
    images = list(np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), "uint8"))
    found = PETransformer(preset, normalize=False).fit_transform(images)
    direct = Embedder.from_preset(preset).encode(images, normalize=False)
    np.testing.assert_allclose(found, direct, atol=1e-5)
    texts = PETransformer(preset).transform(["a", "b"])  # fitted or not
    np.testing.assert_allclose(np.linalg.norm(texts, axis=1), 1, atol=1e-5)
    assert PETransformer(preset).get_feature_names_out().tolist()[-1] == "pe15"


def test_a_table_of_numbers_is_no_image(preset):
    for pixels in (np.zeros((5, 64)), np.zeros((5, 64), "uint8")):
        with pytest.raises(ValueError, match=r"table of shape \(5, 64\).*reshape"):
            PETransformer(preset).transform(pixels)
    images = np.zeros((5, 64), "uint8").reshape(5, 8, 8, 1)
    assert PETransformer(preset).transform(images).shape == (5, 16)
    with pytest.raises(TypeError, match="by its name, path or address"):
        PETransformer(None).fit(images)


def test_in_a_pipeline(preset):
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32, 3), "uint8")
    images[::2, :16] = 255
    images[1::2, :16] = 0
    model = make_pipeline(PETransformer(preset), KNeighborsClassifier(1))
    scores = cross_val_score(model, images, np.arange(12) % 2, cv=2)
    assert scores.min() > 0.8
    model.set_params(petransformer__batch_size=4)
    assert clone(model)[0].batch_size == 4


def test_a_pickle_holds_no_weights(preset):
    transformer = PETransformer(preset).fit(["a"])
    stored = pickle.dumps(transformer)
    assert len(stored) < 1000
    again = pickle.loads(stored)
    np.testing.assert_array_equal(
        again.transform(["a cat"]), transformer.transform(["a cat"])
    )
