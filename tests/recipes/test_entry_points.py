"""The recipes start in an environment with any one backend, without a choice."""

import os
import subprocess
import sys

import keras
import pytest

RECIPES = ("contrastive", "distill", "readme_pictures", "probing.experiments")


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_installed_backend_is_taken(recipe, tmp_path):
    backend = keras.backend.backend()
    others = {"jax", "torch", "tensorflow"} - {backend}
    code = (
        f"import sys\nfor name in {sorted(others)}: sys.modules[name] = None\n"
        f"import recipes.{recipe}, keras\nprint(keras.backend.backend())"
    )
    clean = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "KERAS_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == backend, done.stderr
