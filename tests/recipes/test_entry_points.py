"""The recipes start in an environment with any one backend, without a choice."""

import os
import subprocess
import sys

import keras
import pytest

RECIPES = (
    "recipes.pretrain",
    "recipes.finetune.__main__",
    "recipes.distill",
    "recipes.video.__main__",
    "recipes.align_spatial",
    "recipes.align_language",
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

# Ends at the first import of Keras, which loads the backend that is chosen by then.
UNTIL_KERAS = """
import os

class BeforeKeras:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "keras":
            print(os.environ.get("KERAS_BACKEND", "none chosen"))
            raise SystemExit

sys.meta_path.insert(0, BeforeKeras)
"""


def output_of(code, home):
    """Returns what a fresh process prints, where no other backend is installed."""
    others = {"jax", "torch", "tensorflow"} - {keras.backend.backend()}
    code = HIDE.format(names=sorted(others)) + code
    clean = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "KERAS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.skipif(keras.backend.backend() == "tensorflow", reason="Keras' default")
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_installed_backend_is_chosen_before_keras_is_imported(recipe, tmp_path):
    found = output_of(f"{UNTIL_KERAS}import {recipe}", tmp_path)
    assert found == keras.backend.backend()


@pytest.mark.slow
def test_no_recipe_imports_a_backend_that_is_not_installed(tmp_path):
    code = f"import {', '.join(RECIPES)}, keras\nprint(keras.backend.backend())"
    assert output_of(code, tmp_path) == keras.backend.backend()
