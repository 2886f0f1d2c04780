"""What comes back from files and copies: values, flags, and what the next step moves.

Each of our models stands beside a stock Keras model that goes through the same. Of all
pairs of model and state the suite runs those that could differ: configurations and
flags on PyTorch alone, each state's arithmetic on every backend. All of them, with a
step of every copy, run with KERAS_PE_FULL_MATRIX=1.
"""

import copy
import gc
import os
import pickle

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe.layers.fine_tuning import adaptations
from keras_pe.layers.transformer import TransformerBlock
from keras_pe.presets.report import CheckpointError
from tests.small_models import token_ids

SIZES = {"hidden_dim": 16, "num_heads": 2, "intermediate_dim": 24}
RNG = np.random.default_rng(0)
IMAGES = RNG.uniform(-1, 1, (4, 16, 16, 3)).astype("float32")
TOKENS = RNG.normal(size=(4, 5, 16)).astype("float32")
IDS = token_ids(4)
INPUTS = {
    "core": {"images": IMAGES, "token_ids": IDS},
    "vision": IMAGES,
    "text": IDS,
    "block": TOKENS,
    "stock": TOKENS,
}
OURS = ("core", "vision", "text", "block")
FULL = os.environ.get("KERAS_PE_FULL_MATRIX") == "1"
ALL_STATES = (
    *("plain", "frozen", "part", "lora", "int8", "int4", "float8", "mixed"),
    "int8+lora",
)
STATES = {  # all of one tower's; of the others what they could do differently
    "core": ("part", "lora", "int8"),
    "vision": ALL_STATES,
    "text": ("frozen", "lora", "int8"),
    "block": ("part", "int8", "mixed"),
    # Files do not keep a stock layer's LoRA, nor float8 its order of weights.
    "stock": ("plain", "frozen", "part", "int8", "int4", "mixed"),
}
if FULL:
    STATES.update(dict.fromkeys(OURS, ALL_STATES))
elif keras.backend.backend() != "torch":
    STATES = {
        "core": ("lora",),
        "vision": ("part", "int4", "float8", "int8+lora"),
        "text": ("int8",),
        "block": ("mixed",),
        "stock": ("int8",),
    }
PRESET_STATES = (
    ("plain", "mixed", "frozen", "part", "lora") if FULL else ("part", "lora")
)


def body_of(subject, dtype, num_layers=2):
    sizes = {**SIZES, "num_layers": num_layers, "output_dim": 8, "dtype": dtype}
    vision = keras_pe.PEVisionEncoder(16, 8, **sizes, pooling_heads=2)
    text = keras_pe.PETextEncoder(600, 8, **sizes)
    if subject == "core":
        return keras_pe.PECore(vision, text)
    if subject == "vision":
        return vision
    if subject == "text":
        return text
    if subject == "block":
        return TransformerBlock(16, 2, 24, layer_scale=0.5, dtype=dtype, name="block")
    first = keras.layers.Dense(12, dtype=dtype, name="first")
    second = keras.layers.Dense(16, dtype=dtype, name="second")
    norm = keras.layers.LayerNormalization(dtype=dtype, name="norm")
    inner = keras.Sequential([first, second], name="inner")
    return keras.Sequential([inner, norm], name="stock")


def freeze_a_part(subject, body):
    if subject == "core":
        body.logit_scale.trainable = False
        body.vision_encoder.trainable = False
        body.vision_encoder.blocks[1].trainable = True
        body.text_encoder.blocks[0].attention.qkv.bias.trainable = False
    elif subject in ("vision", "text"):
        body.blocks[0].trainable = False
        body.blocks[0].attention.trainable = True
        body.norm.gamma.trainable = False
    elif subject == "block":
        body.attention.qkv.trainable = False
        body.attention_scale.scale.trainable = False
    else:
        body.layers[0].layers[0].trainable = False


def add_lora(body):
    if isinstance(body, TransformerBlock):
        for dense in body.dense_layers():
            dense.enable_lora(2)
    else:
        body.enable_lora(2, alpha=3.0)


def symbolic(array):
    return keras.Input(array.shape[1:], dtype=array.dtype.name)


def model_of(subject, state, seed=0, num_layers=None):
    """Returns a functional model, a head on a body in a state, of random weights.

    It has a block a tower, for all are alike, but where the state is that of some.
    """
    keras.utils.set_random_seed(seed)
    dtype = "mixed_bfloat16" if state == "mixed" else "float32"
    body = body_of(subject, dtype, num_layers or (2 if state == "part" else 1))
    inputs = keras.tree.map_structure(symbolic, INPUTS[subject])
    x = body(inputs)
    if subject == "core":
        x = x["image_embeddings"] + x["text_embeddings"]
    model = keras.Model(inputs, keras.layers.Dense(3, name="head")(x))
    randomize(model, seed)
    if state == "frozen":
        body.trainable = False
    elif state == "part":
        freeze_a_part(subject, body)
    for step in state.split("+"):
        if step == "lora":
            add_lora(body)
            randomize_lora(model, seed)
        elif step in ("int8", "int4", "float8"):
            gc.freeze()  # Keras collects garbage at every layer
            model.quantize(step)
            gc.unfreeze()
    return model


def randomize(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        noise = rng.normal(0, 0.2, tuple(variable.shape)).astype("float32")
        variable.assign(keras.ops.convert_to_numpy(variable) + noise)


def randomize_lora(model, seed):
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        if "lora" in variable.name:
            noise = rng.normal(0, 0.2, tuple(variable.shape)).astype("float32")
            variable.assign(keras.ops.convert_to_numpy(variable) + noise)


def body_in(model, subject):
    classes = (keras_pe.PECore, keras_pe.PEVisionEncoder, keras_pe.PETextEncoder)
    (found,) = [x for x in model.layers if isinstance(x, (*classes, TransformerBlock))]
    return found


def outputs(model, subject):
    found = model(
        keras.tree.map_structure(keras.ops.convert_to_tensor, INPUTS[subject])
    )
    return keras.ops.convert_to_numpy(keras.ops.cast(found, "float32"))


def flags(model):
    """Returns everything that says what is trained."""
    trained = set(map(id, model.trainable_variables))
    # Keras' own paths change with loading: of the stock model names are compared.
    stock = any(layer.name == "stock" for layer in model.layers)
    variables = sorted(
        (v.name if stock else v.path.split("/", 1)[1], id(v) in trained)
        for v in model.variables
    )
    layers = sorted(
        (x.name, x.trainable)
        for x in model._flatten_layers()
        if x is not model and not isinstance(x, keras.layers.InputLayer)
    )
    # A frozen stock Sequential comes back as trainable, around layers that are frozen.
    return variables, [] if stock else layers


def step(model, subject):
    """Takes one step; returns weights before and after, and which of them train."""
    trained = set(map(id, model.trainable_variables))
    # A stock model's paths change with loading, a float8 Dense's order does.
    keys = range(len(model.weights)) if subject == "stock" else None
    keys = keys or [v.path for v in model.weights]
    trains = {k: id(v) in trained for k, v in zip(keys, model.weights, strict=True)}
    before = dict(zip(keys, model.get_weights(), strict=True))
    # Operation by operation JAX would compile each of them.
    eagerly = keras.backend.backend() != "jax"
    model.compile(keras.optimizers.SGD(0.1), "mse", run_eagerly=eagerly)
    inputs = INPUTS[subject]
    model.train_on_batch(inputs, np.ones(model(inputs).shape, "float32"))
    return before, dict(zip(keys, model.get_weights(), strict=True)), trains


def through_keras_file(model, subject, state, folder):
    model.save(folder / "model.keras")
    return keras.saving.load_model(folder / "model.keras")


def through_weights(model, subject, state, folder):
    model.save_weights(folder / "model.weights.h5")
    twin = model_of(subject, state, seed=1)
    twin.load_weights(folder / "model.weights.h5")
    return twin


def through_clone(model, subject, state, folder):
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    return clone


WAYS = {
    ".keras": through_keras_file,
    "weights file": through_weights,
    "clone_model": through_clone,
    "deepcopy": lambda model, *_: copy.deepcopy(model),
    "pickle": lambda model, *_: pickle.loads(pickle.dumps(model)),
}


@pytest.mark.parametrize(
    ("subject", "state"), [(one, state) for one in STATES for state in STATES[one]]
)
def test_copies_are_equal_and_train_alike(subject, state, tmp_path):
    model = model_of(subject, state)
    expected, expected_flags = outputs(model, subject), flags(model)
    copies = {}
    for way, through in WAYS.items():
        if way == "clone_model" and state == "float8":
            continue  # a stock Dense lists its weights in another order: no set_weights
        copies[way] = through(model, subject, state, tmp_path)
        found = outputs(copies[way], subject)
        np.testing.assert_array_equal(found, expected, err_msg=way)
        assert flags(copies[way]) == expected_flags, way
    if state == "float8" and keras.backend.backend() == "tensorflow":
        return  # Keras' gradient of a float8 Dense fails there, a stock one's too
    found = {}
    stepped = copies if FULL else {".keras": copies[".keras"]}
    for name, one in {"model": model, **stepped}.items():
        before, found[name], trains = step(one, subject)
        moved = {key for key in before if (before[key] != found[name][key]).any()}
        assert moved, name
        if state != "float8":  # its scales follow the data
            assert moved <= {key for key in before if trains[key]}, name
    for way in stepped:
        for key, wanted in found["model"].items():
            np.testing.assert_allclose(
                found[way][key], wanted, atol=1e-6, err_msg=f"{way}: {key}"
            )


@pytest.mark.parametrize("state", PRESET_STATES)
@pytest.mark.parametrize("subject", ["core", "vision"])
def test_a_preset_holds_weights_and_no_flags(subject, state, tmp_path):
    body = body_in(model_of(subject, state), subject)
    body.save_to_preset(tmp_path / "preset")
    assert "trainable" not in (tmp_path / "preset" / "config.json").read_text()
    policy = "mixed_bfloat16" if state == "mixed" else "float32"
    copy = type(body).from_preset(tmp_path / "preset", dtype=policy)
    encode = "encode_image" if subject == "core" else "encode"
    np.testing.assert_allclose(
        np.asarray(getattr(copy, encode)(IMAGES)),
        np.asarray(getattr(body, encode)(IMAGES)),
        atol=1e-6,
    )
    assert not adaptations(copy)
    assert all(variable.trainable for variable in copy.weights)


@pytest.mark.parametrize("subject", ["vision", "core"] if FULL else ["vision"])
@pytest.mark.parametrize(
    "state", ["int8", "int4", "float8", "int8+lora"] if FULL else ["int8"]
)
def test_a_preset_of_a_quantised_model_is_refused(subject, state, tmp_path):
    body = body_in(model_of(subject, state), subject)
    with pytest.raises(CheckpointError, match="Save before calling quantize"):
        body.save_to_preset(tmp_path / "preset")


# === LoRA ===
def test_a_second_lora_is_refused_and_changes_nothing():
    for body in (body_of("vision", "float32"), body_of("core", "float32")):
        body.enable_lora(2)
        names = [v.path for v in body.trainable_variables]
        with pytest.raises(ValueError, match=r"has LoRA already.*merge_lora\(\)"):
            body.enable_lora(4)
        assert [v.path for v in body.trainable_variables] == names
    core = body_of("core", "float32")
    core.text_encoder.enable_lora(2)
    with pytest.raises(ValueError, match="other tower"):
        core.enable_lora(2)
    assert not core.vision_encoder.has_lora


@pytest.mark.parametrize("subject", ["core", "vision", "text"])
def test_freezing_and_thawing_leaves_the_base_of_lora_frozen(subject):
    model = model_of(subject, "plain")
    body = body_in(model, subject)
    body.enable_lora(2)
    adapted = [v.path for v in model.trainable_variables]
    for outer in (body, model):
        outer.trainable = False
        assert not outer.trainable_variables
        outer.trainable = True
        assert [v.path for v in model.trainable_variables] == adapted
    assert all("lora" in path or "head" in path for path in adapted)


def test_a_part_thawed_on_purpose_stays_so_in_copies(tmp_path):
    body = body_of("vision", "float32")
    body.enable_lora(2)
    body.norm.trainable = True
    names = [v.path for v in body.trainable_variables]
    body.save(tmp_path / "body.keras")
    loaded = keras.saving.load_model(tmp_path / "body.keras")
    assert [v.path for v in loaded.trainable_variables] == names
    assert sum("norm" in name for name in names) == 2


def test_merged_lora_computes_the_same_and_is_plain():
    model = model_of("vision", "lora")
    body = body_in(model, "vision")
    merged = body.merge_lora()
    np.testing.assert_allclose(
        np.asarray(merged.encode(IMAGES)), np.asarray(body.encode(IMAGES)), atol=1e-6
    )
    assert not merged.has_lora
    assert len(merged.trainable_variables) == len(merged.variables)
    merged.enable_lora(4)  # what the error of a second enable_lora says
    body.merge_lora().convert(image_size=32)  # what the error of convert says


def test_weights_with_lora_are_merged_by_a_plain_model_and_kept_by_another(tmp_path):
    adapted = model_of("vision", "lora")
    adapted.save_weights(tmp_path / "x.weights.h5")
    plain = model_of("vision", "plain", seed=1)
    plain.load_weights(tmp_path / "x.weights.h5")
    wanted = outputs(adapted, "vision")
    np.testing.assert_allclose(outputs(plain, "vision"), wanted, atol=1e-6)
    # A plain file in a model with LoRA: an update of zero, that can still learn.
    plain.save_weights(tmp_path / "plain.weights.h5")
    fresh = model_of("vision", "lora", seed=2)
    fresh.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_allclose(outputs(fresh, "vision"), wanted, atol=1e-6)
    dense = body_in(fresh, "vision").blocks[0].attention.qkv
    before = keras.ops.convert_to_numpy(dense.lora_kernel_b)
    step(fresh, "vision")
    assert np.abs(keras.ops.convert_to_numpy(dense.lora_kernel_b) - before).max() > 0
    # Of another rank: added to the base, and an update of its own begins.
    other = body_of("vision", "float32", num_layers=1)
    other.enable_lora(4)
    body_in(adapted, "vision").save_weights(tmp_path / "body.weights.h5")
    other.load_weights(tmp_path / "body.weights.h5")
    np.testing.assert_allclose(
        np.asarray(other.encode(IMAGES)),
        np.asarray(body_in(adapted, "vision").encode(IMAGES)),
        atol=1e-6,
    )


def test_weights_with_lora_are_merged_by_a_quantised_model_too(tmp_path):
    adapted, plain = model_of("vision", "int8+lora"), model_of("vision", "int8", seed=1)
    adapted.save_weights(tmp_path / "x.weights.h5")
    plain.load_weights(tmp_path / "x.weights.h5")
    wanted = outputs(adapted, "vision")
    error = np.abs(outputs(plain, "vision") - wanted).max()  # rounded once more
    assert 0 < error < 0.1 * np.abs(wanted).max()


@pytest.mark.parametrize("state", ["frozen", "part", "lora", "int8", "int4"])
def test_a_truncated_encoder_keeps_values_and_state(state):
    body = body_in(model_of("vision", state, num_layers=2), "vision")
    small = body.truncate(1)
    np.testing.assert_allclose(
        np.asarray(small.encode(IMAGES)),
        np.asarray(body.features(IMAGES, 1, class_token=True).values),
        atol=1e-6,
    )
    kept = {
        path: e
        for path, e in adaptations(body).items()
        if path in ("patch_embedding/projection",) or path.startswith("block_1/")
    }
    assert adaptations(small) == kept
    names = {v.path.split("/", 1)[1] for v in small.trainable_variables}
    before = {v.path.split("/", 1)[1] for v in body.trainable_variables}
    assert names == {
        v
        for v in before
        if v.split("/")[0] in ("patch_embedding", "pre_norm", "block_1")
    }


def test_a_configuration_of_parts_that_do_not_exist_is_refused():
    body = body_of("vision", "float32")
    config = {**body.get_config(), "trainable_flags": {"block_9": False}}
    with pytest.raises(ValueError, match=r"does not have: 'block_9'"):
        keras_pe.PEVisionEncoder.from_config(config)
    config = {**body.get_config(), "adaptations": {"block_9": {"quantization": "int8"}}}
    with pytest.raises(ValueError, match="'block_9'"):
        keras_pe.PEVisionEncoder.from_config(config)


def test_configurations_of_models_as_made_say_nothing():
    for subject in OURS:
        text = str(body_of(subject, "float32").get_config())
        assert "trainable_flags" not in text
        assert "adaptations" not in text
