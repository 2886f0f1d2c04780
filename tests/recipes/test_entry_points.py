"""The recipes start in an environment with any one backend, without a choice."""

import os
import subprocess
import sys

import keras
import pytest

RECIPES = (
    "recipes.pretrain",
    "recipes.distill",
    "recipes.align_spatial",
    "projects.emoji.pretrain",
    "projects.emoji.readme_figures",
    "projects.emoji.probing.experiments",
)

# A finder that does not find them. `sys.modules[name] = None` is not enough: libraries
# take a name in `sys.modules` for an imported package and ask it for its classes.
HIDE = """
import sys
from importlib.machinery import PathFinder

class Hiding(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        hidden = name.partition(".")[0] in {names}
        return None if hidden else super().find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Hiding
"""


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_installed_backend_is_taken(recipe, tmp_path):
    backend = keras.backend.backend()
    others = {"jax", "torch", "tensorflow"} - {backend}
    code = (
        HIDE.format(names=sorted(others))
        + f"import {recipe}, keras\nprint(keras.backend.backend())"
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
