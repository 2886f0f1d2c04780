"""What a resumed run must have in common with the one that was saved."""

import keras
import numpy as np
import pytest

import keras_pe
from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.optimizers.schedules import WarmupCosine
from keras_pe.training.resolution import ResolutionStage, plan_stages
from keras_pe.training.run.identity import differences, other_plan, plan_of
from keras_pe.training.run.training_run import TrainingRun
from keras_pe.training.trainers.contrastive_trainer import ContrastiveTrainer
from tests.small_models import text_encoder, vision_encoder
from tests.training.run.test_training_run import BATCH, STAGES, arrays, batches

WEIGHTS = "weights/"


def trainer(rate=1e-2, seed=0, **options):
    keras.utils.set_random_seed(seed)
    model = keras_pe.PECore(vision_encoder(num_layers=1), text_encoder(num_layers=1))
    found = ContrastiveTrainer(model)
    found.compile(Lamb(rate, **options), jit_compile=keras.backend.backend() == "jax")
    return found


def run(directory, of, data=None, stages=STAGES, batch_size=BATCH):
    made = data or batches()
    return TrainingRun(
        of, directory, stages, batch_size, made, save_every=1, progress=False
    )


def values(of):
    return [np.copy(keras.ops.convert_to_numpy(v)) for v in of.model.weights]


def assert_equal(ours, theirs):
    exact = keras.backend.backend() != "tensorflow"
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(a, b, rtol=0 if exact else 1e-5, atol=1e-6)


# === Averages of the weights ===
@pytest.mark.slow
def test_averages_take_the_place_of_weights_once_and_at_the_end(tmp_path):
    """Stopped where a stage ends, which is where `fit` would put them in place."""
    options = {"use_ema": True, "ema_momentum": 0.5}
    stages = plan_stages([ResolutionStage(16, 2 * BATCH)] * 2, 8)
    whole, resumed = trainer(**options), trainer(seed=1, **options)
    run(tmp_path / "whole", whole, stages=stages).train()
    after = values(whole)
    stopped = run(
        tmp_path / "stopped", trainer(**options), batches(error_at=2), stages=stages
    )
    with pytest.raises(Exception, match="the disk is gone"):
        stopped.train()
    run(tmp_path / "stopped", resumed, stages=stages).train(resume=True)
    assert_equal(values(resumed), after)
    run(tmp_path / "whole", whole, stages=stages).train(resume=True)  # at its end
    assert_equal(values(whole), after)
    kept = arrays(tmp_path / "whole")
    path = "pe_vision_encoder/block_1/attention/qkv/kernel"
    weight, average = kept[WEIGHTS + path], kept[f"optimizer/average/{path}"]
    kernel = whole.model.vision_encoder.blocks[0].attention.qkv.kernel
    assert_equal([keras.ops.convert_to_numpy(kernel)], [average])
    assert np.abs(weight - average).max() > 1e-4
    # Nothing is left of it: `fit` alone does as it always does.
    assert "finalize_variable_values" not in vars(whole.optimizer)


# === Identity ===
@pytest.mark.slow
def test_another_run_is_refused_without_a_configuration(tmp_path):
    run(tmp_path, trainer(), stages=STAGES[:1]).train()
    for name, other in (
        ("batch_size", run(tmp_path, trainer(), stages=STAGES[:1], batch_size=4)),
        ("stages", run(tmp_path, trainer())),
        ("optimizer.learning_rate", run(tmp_path, trainer(1e-4), stages=STAGES[:1])),
        ("optimizer.beta_1", run(tmp_path, trainer(beta_1=0.5), stages=STAGES[:1])),
    ):
        with pytest.raises(
            ValueError, match=f"another configuration; different: {name}"
        ):
            other.train(resume=True)
    run(tmp_path, trainer(), stages=STAGES[:1]).train(resume=True)
    # An extended run may have another rate: that one, not the rate it was saved with.
    longer = trainer(1e-4)
    extended = run(tmp_path, longer)
    extended.train(resume=True, extend=True)
    assert extended.extension is not None
    assert extended.extension.endswith("0.0001, not 0.01")
    rate = keras.ops.convert_to_numpy(longer.optimizer.learning_rate)
    assert float(rate) == pytest.approx(1e-4)


def plan(optimizer, batch_size=8, stages=STAGES):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer, "mse")
    return plan_of(model, batch_size, stages)


@pytest.mark.quick
def test_plans_are_compared_by_what_both_know():
    adam = keras.optimizers.Adam
    ours = plan(adam(1e-3))
    assert other_plan(ours, plan(adam(1e-3, name="other"))) == []
    assert other_plan(ours, plan(adam(1e-2))) == ["optimizer.learning_rate"]
    assert other_plan(ours, plan(adam(1e-2)), extended=True) == []
    assert other_plan(ours, plan(adam(1e-3, beta_2=0.5))) == ["optimizer.beta_2"]
    assert other_plan({}, ours) == []  # of a version that did not note it
    longer = plan(adam(WarmupCosine(1e-3, 1, 9)), stages=STAGES[:1])
    shorter = plan(adam(WarmupCosine(1e-3, 1, 8)))
    assert other_plan(longer, shorter) == ["stages"]  # which the schedule follows
    scaled = keras.optimizers.LossScaleOptimizer(adam(1e-3, clipnorm=float("inf")))
    assert plan(scaled)["optimizer"]["clipnorm"] == "Infinity"


@pytest.mark.quick
def test_differences_are_named_by_place():
    ours, theirs = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"c": 2, "d": 4}, "e": None}
    assert differences(ours, theirs) == ["a", "b.d", "e"]
