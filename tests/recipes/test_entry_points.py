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


def backend_chosen(statement, home):
    """Returns the backend that a fresh process finds, where no other is installed."""
    others = {"jax", "torch", "tensorflow"} - {keras.backend.backend()}
    code = (
        HIDE.format(names=sorted(others))
        + f"{statement}\nimport keras\nprint(keras.backend.backend())"
    )
    clean = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean, "KERAS_HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr


@pytest.mark.slow
@pytest.mark.once  # the choice falls before Keras is there
@pytest.mark.parametrize("recipe", RECIPES)
def test_an_installed_backend_is_taken(recipe, tmp_path):
    assert backend_chosen(f"import {recipe}", tmp_path) == keras.backend.backend()


@pytest.mark.slow
def test_no_recipe_imports_a_backend_that_is_not_installed(tmp_path):
    found = backend_chosen(f"import {', '.join(RECIPES)}", tmp_path)
    assert found == keras.backend.backend()
