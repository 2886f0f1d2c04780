"""What the documentation says can be done can be done: names, commands, examples."""

import ast
import doctest
import importlib
import json
import pkgutil
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_pe
from keras_pe.cli.main import build_parser
from keras_pe.training.devices.distribution import static_batches
from tests.models.test_examples import WITH_EXAMPLES

BACKEND = keras.backend.backend()
ROOT = Path(keras_pe.__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in (
        "*.md",
        "docs/*.md",
        "recipes/**/*.md",
        "projects/**/*.md",
        "keras_pe/presets/*.md",
    )
    for path in ROOT.glob(pattern)
)
MODULES = sorted(  # those of models and layers run in tests/models/test_examples.py
    module.name
    for module in pkgutil.walk_packages(keras_pe.__path__, "keras_pe.")
    if ">>> " in Path(importlib.util.find_spec(module.name).origin).read_text("utf-8")
    and module.name not in WITH_EXAMPLES
)
KERASHUB = "keras_pe.kerashub"
NEEDS_KERASHUB = "needs keras-pe[kerashub]"
# Their examples make models of KerasHub, and files of the `gguf` package.
NEEDED = {
    "keras_pe.language.foreign": ["keras_hub"],
    "keras_pe.language.gguf_llama": ["keras_hub", "gguf"],
    "keras_pe.language.kerashub": ["keras_hub"],
    "keras_pe.language.kerashub_preset": ["keras_hub"],
    "keras_pe.training.teachers.sam": ["keras_hub"],
}
# Heavier than an example should be: the published sizes.
LARGE = ("gigantic", "large", "base", "PE-Core")


def python_blocks(page):
    """Returns the code blocks of a page."""
    text = (ROOT / page).read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# === Names ===
@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize("page", [page for page in PAGES if python_blocks(page)])
def test_names_exist(page):
    for block in python_blocks(page):
        tree = ast.parse(block)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] in (
                "keras_pe",
                "recipes",
                "projects",
            ):
                if node.module.startswith(KERASHUB):
                    pytest.importorskip("keras_hub", reason=NEEDS_KERASHUB)
                module = importlib.import_module(node.module)
                for name in node.names:
                    assert hasattr(module, name.name), ast.unparse(node)
            name = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if name.startswith("keras_pe.") and "(" not in name:
                found = keras_pe
                for part in name.split(".")[1:]:
                    found = getattr(found, part)


@pytest.mark.quick
@pytest.mark.once
def test_links_to_the_reference_name_something():
    found = set()
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        found |= set(re.findall(r"\{py:\w+\}`(?:[^`<]*<)?~?(keras_pe[\w.]*)>?`", text))
    assert len(found) > 10
    for path in found:
        value = keras_pe
        for part in path.split(".")[1:]:
            value = getattr(value, part)


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_exist(page):
    """A file is named from the top, or by a part of its path that is enough."""
    places = [
        f"/{path.relative_to(ROOT).as_posix()}{'/' if path.is_dir() else ''}"
        for folder in (
            "keras_pe",
            "recipes",
            "projects",
            "notebooks",
            "tests",
            "benchmarks",
            ".ci",
        )
        for path in (ROOT / folder, *(ROOT / folder).rglob("*"))
    ]
    named = re.findall(r"`([\w./-]+(?:\.py|/))`", (ROOT / page).read_text("utf-8"))
    assert named
    for name in named:
        if "your" not in name and name not in ("fuzz-failures/", "utils.py"):
            assert any(place.endswith(f"/{name}") for place in places), name


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize("page", PAGES)
def test_blocks_that_need_a_clone_say_so(page):
    """The package that pip installs has neither recipes nor projects."""
    text = (ROOT / page).read_text("utf-8")
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if re.search(r"^(from|import) (recipes|projects)\b", block[1], re.MULTILINE):
            before = text[: block.start()].rstrip().rsplit("\n\n", 1)[-1]
            assert "clone" in before, block[0]


@pytest.mark.quick
@pytest.mark.once
@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text("utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), target


# === Commands ===
def commands():
    """Returns every `keras-pe` command line that a page shows."""
    found = []
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        lines = re.findall(r"`keras-pe ([a-z][^`\n]*)`", text)
        for block in re.findall(r"^```bash\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            joined = block.replace("\\\n", " ")
            lines += re.findall(r"(?:^|&& )keras-pe ([a-z].*)$", joined, re.MULTILINE)
        found += [(page, line.split(" #")[0]) for line in lines]
    return found


@pytest.mark.quick
@pytest.mark.once
def test_commands_are_understood():
    lines = commands()
    assert len(lines) > 10
    for page, line in lines:
        try:
            build_parser().parse_args(shlex.split(line))
        except SystemExit:
            pytest.fail(f"{page}: keras-pe {line}")


@pytest.mark.quick
@pytest.mark.once
def test_recipes_exist():
    found = set()
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        found |= set(
            re.findall(
                r"python -m ((?:recipes|projects|notebooks|benchmarks|tests)"
                r"[.\w]*\w)\b(?!\.)",
                text,
            )
        )
    assert len(found) > 5
    for name in found:
        path = ROOT / name.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name


# === Examples ===
@pytest.mark.slow
@pytest.mark.once
@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings(name, tmp_path, monkeypatch):
    for package in NEEDED.get(name, ()):
        pytest.importorskip(package, reason=f"needs {package}")
    monkeypatch.chdir(tmp_path)
    assert not doctest.testmod(importlib.import_module(name)).failed


# Pages whose blocks, one after the other, make all that they use.
COMPLETE = ("docs/language.md", "docs/probing.md")
# The published presets, whose weights the tests can't have, and the largest of ours.
STAND_IN = "pe_core_emoji_patch8_64"
# Trains on every backend and names no block: half of the blocks are enough.
SHALLOW = {"docs/fine_tuning.md": "pe_core_emoji_small_patch8_64"}
# Of that page, what has tests on every backend: tests/finetuning, and in tests/recipes
# and tests/models. The rest is the user's own Keras code.
TESTED = re.compile(r"\b(?:ImageClassifier|finetune_pairs|Embedder)\b")
REPLACED = re.compile(
    r"pe_core_(?:large_patch14_336|base_patch16_224|emoji_patch8_64)\b"
)


def drawings():
    """Returns images whose label can be seen: every other one is white above."""
    images = np.random.default_rng(0).integers(0, 256, (30, 64, 64, 3), "uint8")
    images[1::2, :32] = 255
    return list(images), np.arange(30) % 2


def write_files(images, labels):
    """Writes the files that the pages read, into the working directory."""
    Image.fromarray(images[0]).save("photo.jpg")
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        for root in ("imagenet/val", "flowers"):
            folder = Path(root, ("n01", "n02")[label])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(folder / f"{number}.png")
    names = {"0": ["n01", "an owl"], "1": ["n02", "a guitar"]}
    rows = [
        f"flowers/{names[str(label)][0]}/{number}.png,{names[str(label)][1]} {number}"
        for number, label in enumerate(labels)
    ]
    Path("pairs.csv").write_text("\n".join(["path,caption", *rows[:20]]))
    Path("validation.csv").write_text("\n".join(["path,caption", *rows[20:]]))
    Path("class_index.json").write_text(json.dumps(names))
    Path("en_zeroshot_classification_templates.json").write_text(
        json.dumps({"imagenet1k": ["a photo of {c}"]})
    )


def backbone():
    """Returns a functional encoder, its layers named as those of KerasHub."""
    x = inputs = keras.Input((64, 64, 3))
    x = keras.layers.Reshape((64, 8))(keras.layers.Conv2D(8, 8, 8)(x))
    x = keras.layers.ZeroPadding1D((1, 0))(x)  # the class token
    for number in range(2):
        x = keras.layers.Dense(8, "relu", name=f"encoder_block_{number}")(x)
    return keras.Model(inputs, x)


def batches(tokenizer, count=2):
    """Returns batches for the trainer, as the page says they are given to it."""
    rng = np.random.default_rng(0)
    found = [
        {
            "images": rng.uniform(-1, 1, (32, 64, 64, 3)).astype("float32"),
            "token_ids": tokenizer(["an owl", "a guitar"] * 16),
            "masked_patches": rng.random((2, 64)) < 0.5,
        }
        for _ in range(count)
    ]
    if BACKEND == "tensorflow":
        return static_batches(found)
    return ((batch,) for batch in found)


def given(stand_in):
    """Returns what a page may take for granted, by name, and writes the files."""
    images, labels = drawings()
    write_files(images, labels)
    tokenizer = keras_pe.PETokenizer.from_preset(stand_in)
    return {
        "images": images,
        "photos": images,
        "labels": labels,
        "model": keras_pe.PECore.from_preset(stand_in),
        "tokenizer": tokenizer,
        "backbone": backbone(),
        "converter": keras_pe.PEImageConverter(64),
        "batches": batches(tokenizer),
        "keras_pe": keras_pe,
    }


# The others call what has tests of its own on every backend.
MARKS = {"README.md": pytest.mark.compiled, "docs/fine_tuning.md": ()}


@pytest.mark.slow
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=MARKS.get(page, pytest.mark.once))
        for page in PAGES
        if python_blocks(page) and "recipes" not in page
    ],
)
def test_blocks_run(page, tmp_path, monkeypatch):
    if any(f"from {KERASHUB}" in block for block in python_blocks(page)):
        pytest.importorskip("keras_hub", reason=NEEDS_KERASHUB)
    monkeypatch.chdir(tmp_path)
    stand_in = SHALLOW.get(page, STAND_IN)
    namespace = {} if page in COMPLETE else given(stand_in)
    ran = 0
    for block in python_blocks(page):
        block = REPLACED.sub(stand_in, block)
        if any(size in block for size in LARGE):
            continue
        if BACKEND != "torch" and page in SHALLOW and TESTED.search(block):
            continue
        exec(compile(block, page, "exec"), namespace)
        ran += 1
    assert ran
