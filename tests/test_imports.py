"""What `import keras_pe` loads, and which backend it picks."""

import json
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import keras_pe
from tests.small_models import core

pytestmark = [pytest.mark.quick, pytest.mark.once]
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


def modules_after(statement, backend="numpy", first="pass"):
    """Returns the top-level modules that a statement loads in a fresh process.

    Keras loads in half the time on NumPy. What `first` loads does not count.
    """
    code = (
        f"import sys, json; {first}; before = set(sys.modules); {statement}; "
        "print(json.dumps(list(set(sys.modules) - before)))"
    )
    environment = {**os.environ, "KERAS_BACKEND": backend}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_nothing_heavy_beyond_keras_itself(backend):
    """Two backends: Keras itself imports the one that runs."""
    pytest.importorskip(backend)
    added = modules_after("import keras_pe", backend, first="import keras")
    assert not added & set(HEAVY), added
    assert "keras_pe" in added


def test_the_package_alone_needs_no_keras():
    loaded = modules_after("import keras_pe")
    assert not loaded & {*HEAVY, "keras", "numpy", "PIL", "rich"}


def test_backends_are_imported_where_contributing_says():
    package = Path(keras_pe.__file__).parent
    importers = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search(
            r"^ *(import|from) (tensorflow|torch|jax)\b", path.read_text("utf-8"), re.M
        )
    }
    named = {
        "arrays.py",
        "layers/initializers.py",
        "losses/row_chunks.py",
        "models/compiled.py",
        "presets/assign.py",
        "presets/torch_file.py",
    }
    others = {p for p in importers if p.startswith(("training/", "export/"))}
    assert not importers - named - others


def test_what_is_offered_of_the_data_is_public():
    assert dir(keras_pe.data) == sorted(keras_pe.data.__all__)


def test_what_recipes_run_is_public_and_needs_grain_alone_when_asked_for():
    assert dir(keras_pe.training) == sorted(keras_pe.training.__all__)
    trainers = "from keras_pe.training import ContrastiveTrainer, RunConfig"
    assert "grain" not in modules_after(trainers)
    for name in keras_pe.training._NEED_GRAIN:
        assert callable(getattr(keras_pe.training, name))
    with pytest.raises(AttributeError, match="no attribute 'pretrian'"):
        keras_pe.training.pretrian  # noqa: B018


def test_the_name_space_is_what_users_are_told():
    assert dir(keras_pe) == sorted(
        [*keras_pe.__all__, *keras_pe._PACKAGES, "__version__"]
    )
    folder = Path(keras_pe.__file__).parent
    packages = {path.parent.name for path in folder.glob("*/__init__.py")}
    assert packages - {"cli"} == set(keras_pe._PACKAGES)
    for name in set(dir(keras_pe)) - {"kerashub"}:  # which needs KerasHub
        assert getattr(keras_pe, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'PECOre'"):
        keras_pe.PECOre  # noqa: B018


def test_the_former_name_of_presets_stays():
    for name in keras_pe.checkpoints.__all__:
        assert getattr(keras_pe.checkpoints, name) is getattr(keras_pe.presets, name)


IMPORTS = (
    "import keras_pe, keras",
    "import keras, keras_pe",
    "import keras_pe.files, keras",
    "from keras_pe.layers.attention import rotate; import keras",
    "from keras_pe import *; import keras",
)
LOADS = (
    "import keras_pe, keras; assert keras.saving.load_model({path}).built",
    "import pickle; assert pickle.load(open({path}, 'rb')).built",
)
FORKS = """
import json, os, sys, traceback

# What Keras needs of others is loaded once, Keras and we in each fork.
import h5py, ml_dtypes, numpy, optree, rich.console

assert not {"keras", "keras_pe"} & set(sys.modules)
said = {}
for statement in json.loads(sys.argv[1]):
    reading, writing = os.pipe()
    if os.fork():
        os.close(writing)
        said[statement] = os.fdopen(reading).read()
        os.wait()
        continue
    try:
        exec(statement, {})
        os.write(writing, b"fine")
    except BaseException:
        os.write(writing, traceback.format_exc().encode())
    os._exit(0)
print(json.dumps(said))
"""


def registered_after(statement):
    """Returns code that asks for all classes by name after a statement."""
    names = [name for name in keras_pe.__all__ if name.startswith("PE")]
    names += ["TransformerBlock", "FeaturePyramid", "SmallDecoder", "VisionProjector"]
    return (
        f"{statement}; find = keras.saving.get_registered_object; "
        f"missing = [n for n in {names} if find('keras_pe>' + n) is None]; "
        f"assert not missing, missing; "
        f"from keras_pe import PECore; assert find('keras_pe>PECore') is PECore"
    )


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What came of each statement, in a process that had imported no Keras."""
    folder = tmp_path_factory.mktemp("saved")
    model = core()
    model.save(folder / "model.keras")
    (folder / "model.pickle").write_bytes(pickle.dumps(model))
    code = {one: registered_after(one) for one in IMPORTS}
    for one, name in zip(LOADS, ("model.keras", "model.pickle"), strict=True):
        code[one] = one.format(path=repr(str(folder / name)))
    done = subprocess.run(
        [sys.executable, "-c", FORKS, json.dumps(list(code.values()))],
        env={**os.environ, "KERAS_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.splitlines()[-1])
    return {one: found[lines] for one, lines in code.items()}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by os.fork")
@pytest.mark.parametrize("statement", IMPORTS)
def test_our_classes_are_registered_whatever_was_imported(said, statement):
    assert said[statement] == "fine"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts processes by os.fork")
@pytest.mark.parametrize("statement", LOADS, ids=["file", "pickle"])
def test_what_was_saved_is_loaded_before_a_class_was_touched(said, statement):
    assert said[statement] == "fine"


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
