"""What `import keras_pe` loads, and which backend it picks."""

import json
import os
import subprocess
import sys

import keras
import pytest

pytestmark = pytest.mark.quick
HEAVY = (
    "tensorflow",
    "torch",
    "jax",
    "keras_hub",
    "matplotlib",
    "grain",
    "pandas",
    "av",
)


def modules_after(statement):
    """Returns the top-level modules loaded by a statement in a fresh process."""
    code = f"import sys; {statement}; import json; print(json.dumps(list(sys.modules)))"
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.slow
def test_nothing_heavy_beyond_keras_itself():
    added = modules_after("import keras_pe") - modules_after("import keras")
    assert not added & set(HEAVY), added
    assert "keras_pe" in added


def choose(home, blocked, **environment):
    """Returns KERAS_BACKEND after choosing, with some backends made unfindable."""
    code = (
        "import importlib.util, os, sys\n"
        f"blocked = {blocked!r}\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n: None if n in blocked else find(n)\n"
        "import importlib.machinery\n"
        "path = sys.argv[1]\n"
        "spec = importlib.util.spec_from_file_location('default_backend', path)\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "module.choose_backend()\n"
        "print(os.environ.get('KERAS_BACKEND', 'unset'))\n"
    )
    import keras_pe.default_backend

    clean = {k: v for k, v in os.environ.items() if k != "KERAS_BACKEND"}
    return subprocess.run(
        [sys.executable, "-c", code, keras_pe.default_backend.__file__],
        env={**clean, "KERAS_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_an_installed_default_is_kept(tmp_path):
    assert choose(tmp_path, []).stdout.strip() == "unset"


def test_a_missing_default_is_replaced(tmp_path):
    assert choose(tmp_path, ["tensorflow"]).stdout.strip() == "jax"
    assert choose(tmp_path, ["tensorflow", "jax"]).stdout.strip() == "torch"


def test_an_explicit_choice_is_never_overruled(tmp_path):
    done = choose(tmp_path, ["tensorflow"], KERAS_BACKEND="tensorflow")
    assert done.stdout.strip() == "tensorflow"
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    assert choose(tmp_path, ["tensorflow"]).stdout.strip() == "unset"


def test_no_backend_at_all_is_explained(tmp_path):
    done = choose(tmp_path, ["tensorflow", "jax", "torch"])
    assert done.returncode != 0
    assert "pip install" in done.stderr
