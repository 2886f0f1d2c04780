"""Set-up of the whole suite: which backend runs, and how fast it compiles.

Keras is imported where it is used: the process that hands out the tests needs none.
"""

import gc
import importlib.metadata
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# Tests compile far more than they compute: half the time without the costly passes.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("JAX_TRACEBACK_IN_LOCATIONS_LIMIT", "0")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

import pytest

from tests.jax_contexts import share_contexts

MOST_MEMORY_MAPS = 30_000
FREE_AFTER = 4.0  # seconds of processor time
LONGEST = (
    "test_gpu.py",
    "test_fuzz.py",
    "test_site.py",
    "test_sharding.py",
    "test_distribution.py",
    "test_round_trips.py",
    "test_docs.py",
    "test_contrastive_trainer.py",
    "test_reference_numbers.py",
    "test_training_run.py",
    "test_inference_contract.py",
    "test_processes.py",
    "test_batch_checks.py",
    "test_spatial_trainer.py",
    "test_distillation_trainer.py",
    "test_text_scores.py",
    "test_imports.py",
)
MARKS_OF_A_FILE = re.compile(r"^pytestmark = (\[[^\]]*\]|.*)", re.MULTILINE)


def pytest_report_header(config: pytest.Config) -> str:
    version = importlib.metadata.version("keras")
    return f"keras {version} on {os.environ.get('KERAS_BACKEND', 'its default')}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Imports no file of which `-m "not once"` leaves nothing, a third of all."""
    if collection_path.suffix != ".py" or "not once" not in config.option.markexpr:
        return None
    found = MARKS_OF_A_FILE.search(collection_path.read_text("utf-8"))
    return True if found and "pytest.mark.once" in found[0] else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the longest files first: no process ends long before the others."""
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))


def pytest_collection_finish(session: pytest.Session) -> None:
    if os.environ.get("KERAS_BACKEND") == "jax" and "jax" in sys.modules:
        share_contexts()
    if os.environ.get("KERAS_BACKEND") == "tensorflow" and "tensorflow" in sys.modules:
        import tensorflow as tf

        # A quarter of the time of making a graph is optimising it.
        tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    _keep_what_there_is()


@pytest.hookimpl(tryfirst=True)  # before the fixtures of the test
def pytest_runtest_setup(item: pytest.Item) -> None:
    """On TensorFlow, runs operations one by one but in tests marked `compiled`.

    Every model is traced anew: ten times the work of a step or two, and more with XLA.
    """
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        compiled = item.get_closest_marker("compiled") is not None
        compiled = compiled or "KERAS_PE_COMPILED" in os.environ
        tf.config.run_functions_eagerly(not compiled)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, in the process that hands out
def pytest_testnodedown(node: Any, error: object) -> None:
    """Tells `python -m tests` that a core is free for the next backend."""
    reporter = node.config.pluginmanager.get_plugin("terminalreporter")
    reporter.write_line(f"\n{node.gateway.id} has ended")
    reporter.flush()


def _keep_what_there_is() -> None:
    """What is imported stays: no later collection need look at it.

    Keras collects whenever a weight is deleted, for each layer that is quantised.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)  # tracing makes far more than it drops


@pytest.fixture(autouse=True)
def _seed() -> None:
    import keras

    keras.utils.set_random_seed(0)


_freed = [0.0]  # processor time at which memory was freed


@pytest.fixture(autouse=True, scope="module")
def _forget_the_module() -> Iterator[None]:
    """Frees what modules of tests have made, not after each: looking takes time."""
    yield
    if time.process_time() - _freed[0] < FREE_AFTER:
        return
    import keras

    if keras.backend.backend() == "jax" and num_memory_maps() > MOST_MEMORY_MAPS:
        import jax

        jax.clear_caches()
    _keep_what_there_is()
    _freed[0] = time.process_time()


def num_memory_maps() -> int:
    """Returns how many pieces the memory of this process has; 0 where none can tell.

    Each program that JAX has compiled holds some. Linux allows a process 65,530 of
    them (`vm.max_map_count`); the suite would need more, and XLA then aborts.
    """
    maps = Path("/proc/self/maps")
    return maps.read_bytes().count(b"\n") if maps.exists() else 0
