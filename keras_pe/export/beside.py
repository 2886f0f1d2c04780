"""What lies beside the files: how inputs are prepared, in words and as a program."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras import ops

from keras_pe.export.onnx_towers import output_name
from keras_pe.export.subject import Subject
from keras_pe.models.core import PECore
from keras_pe.preprocessing.tokenizer import PETokenizer

# How each runtime opens a file and runs a batch: two lines of run.py.
_RUNTIMES = {
    "onnx": (
        "onnxruntime",
        "import onnxruntime",
        """    session = onnxruntime.InferenceSession(str(HERE / SAID["files"][tower]))
    return session.run(None, {session.get_inputs()[0].name: batch})[0]""",
    ),
    "openvino": (
        "openvino",
        "import openvino",
        """    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    model = openvino.Core().compile_model(HERE / SAID["files"][tower], "CPU", hint)
    return np.array(model(batch)[0])""",
    ),
    "litert": (
        "ai-edge-litert",
        "from ai_edge_litert.interpreter import Interpreter",
        """    file = str(HERE / SAID["files"][tower])
    return Interpreter(file).get_signature_runner()(inputs=batch)["layer_000"]""",
    ),
    "savedmodel": (
        "tensorflow",
        "import tensorflow",
        """    model = tensorflow.saved_model.load(str(HERE / SAID["files"][tower]))
    run = model.signatures["serving_default"]
    return run(inputs=tensorflow.constant(batch))["layer_000"].numpy()""",
    ),
    "torch": (
        "torch",
        "import torch",
        """    model = torch.export.load(HERE / SAID["files"][tower]).module()
    return model(torch.from_numpy(batch)).detach().numpy()""",
    ),
}

_HEAD = '''"""Embeds images and texts with {package}, as keras_pe does.

python run.py cat.jpg dog.jpg{usage}   (pip install numpy pillow{tokenizers} {package})
"""

{imports}
HERE = Path(__file__).parent
SAID = json.loads((HERE / "export.json").read_text())


def run(tower, batch):
{run}


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True) if SAID["unit_length"] else x
'''

_IMAGES = """

def embed_images(paths):
    return unit(run("image", np.stack([pixels(path) for path in paths])))


def pixels(path):
    how, image = SAID["image"], ImageOps.exif_transpose(Image.open(path))
    if how["background"] and image.has_transparency_data:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, (*how["background"], 255))
        image = Image.alpha_composite(below, image).convert("RGB")
    if image.mode not in ("L", "RGB", "LA", "RGBA", "CMYK", "YCbCr"):
        image = image.convert("RGB")
    filter = Image.Resampling[how["interpolation"].upper()]
    size = (how["width"], how["height"])
    rgb = image.resize(size, filter{box}).convert("RGB")
    mean, std = np.float32(how["mean"]), np.float32(how["std"])
    return (np.asarray(rgb, "float32") / np.float32(255) - mean) / std
"""

_CROP = """

def crop(old, new):
    w, h = new
    if old[0] * new[1] <= old[1] * new[0]:
        h = new[0] * old[1] // old[0]
    else:
        w = new[1] * old[0] // old[1]
    x, y = round((w - new[0]) / 2), round((h - new[1]) / 2)
    sx, sy = old[0] / w, old[1] / h
    right, below = min((x + new[0]) * sx, old[0]), min((y + new[1]) * sy, old[1])
    return x * sx, y * sy, right, below
"""

_TEXTS = """

TOKENIZER = Tokenizer.from_file(str(HERE / "tokenizer.json"))


def embed_texts(texts):
    return unit(run("text", np.array([ids(text) for text in texts], "int32")))


def ids(text):
    how = SAID["text"]
    text = html.unescape(html.unescape(fix_text(text)))
    text = re.sub(r"\\s+", " ", text).strip().lower()
    words = TOKENIZER.encode(text, add_special_tokens=False).ids
    row = [how["start_id"], *words][: how["length"] - 1] + [how["end_id"]]
    return row + [how["pad_id"]] * (how["length"] - len(row))
"""

_MAIN = {
    "image": """

if __name__ == "__main__":
    vectors = embed_images(sys.argv[1:])
    np.save("vectors.npy", vectors)
    print(vectors.shape, "in vectors.npy")
""",
    "text": """

if __name__ == "__main__":
    vectors = embed_texts(sys.argv[1:])
    np.save("vectors.npy", vectors)
    print(vectors.shape, "in vectors.npy")
""",
    "both": """

if __name__ == "__main__":
    split = sys.argv.index("--texts")
    images, texts = sys.argv[1:split], sys.argv[split + 1 :]
    logits = SAID["logit_scale"] * embed_images(images) @ embed_texts(texts).T
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    for image, row in zip(images, shares / shares.sum(axis=1, keepdims=True)):
        print(image, {text: round(float(p), 4) for text, p in zip(texts, row)})
""",
}


def write(
    folder: Path, subject: Subject, file_format: str, files: Mapping[str, str]
) -> None:
    """Writes `export.json`, `tokenizer.json` where there are texts, and `run.py`.

    Args:
        folder: where.
        subject: what was exported.
        file_format: of the files.
        files: their names, by tower.
    """
    said = description(subject, file_format, files)
    text = json.dumps(said, indent=1) + "\n"
    (folder / "export.json").write_text(text, encoding="utf-8")
    if "text" in files and subject.tokenizer is not None:
        (folder / "tokenizer.json").write_text(
            subject.tokenizer.to_tokenizers_json(), encoding="utf-8"
        )
    (folder / "run.py").write_text(program(said), encoding="utf-8")


def description(
    subject: Subject, file_format: str, files: Mapping[str, str]
) -> dict[str, Any]:
    """Returns what `export.json` holds."""
    said: dict[str, Any] = {
        "model": subject.name,
        "format": file_format,
        "files": dict(files),
        "outputs": {which: output_name(subject.tower(which)) for which in files},
        "unit_length": isinstance(subject.model, PECore),
    }
    if "image" in files:
        config = subject.image_converter.get_config()
        height, width = subject.image_converter.image_size
        kept = ("resize_mode", "interpolation", "mean", "std", "background")
        said["image"] = {"height": height, "width": width} | {
            k: config[k] for k in kept
        }
    if "text" in files and subject.tokenizer is not None:
        said["text"] = _text(subject.tokenizer, subject.tower("text"))
    if len(files) == 2:
        scale = ops.convert_to_numpy(subject.model.clamped_logit_scale())
        said["logit_scale"] = float(scale)
    return said


def _text(tokenizer: PETokenizer, tower: Any) -> dict[str, int]:
    return {
        "length": tower.context_length,
        "start_id": tokenizer.start_id,
        "end_id": tokenizer.end_id,
        "pad_id": tokenizer.pad_id,
    }


def program(said: Mapping[str, Any]) -> str:
    """Returns `run.py`: as much of it as these files need."""
    package, opened, run = _RUNTIMES[said["format"]]
    images, texts = "image" in said["files"], "text" in said["files"]
    crop = images and said["image"]["resize_mode"] == "center_crop"
    tower = "both" if images and texts else "image" if images else "text"
    return (
        _HEAD.format(
            package=package,
            usage=' --texts "a cat" "a dog"' if tower == "both" else "",
            tokenizers=" tokenizers" if texts else "",
            imports=_imports(opened, images, texts),
            run=run,
        )
        + (
            _IMAGES.replace("{box}", ", crop(image.size, size)" if crop else "")
            * images
        )
        + _CROP * crop
        + _TEXTS * texts
        + _MAIN[tower]
    )


def _imports(opened: str, images: bool, texts: bool) -> str:
    standard = ["import json", "import sys", "from pathlib import Path"]
    if texts:
        standard[:0] = ["import html"]
        standard[2:2] = ["import re"]
    third = ["import numpy as np"]
    plain = [opened] if opened.startswith("import") else []
    third += plain + (["from PIL import Image, ImageOps"] if images else [])
    third += [] if plain else [opened]
    third += ["from tokenizers import Tokenizer"] if texts else []
    lines = [*standard, "", *third]
    if texts:  # the one difference without it: text that was decoded wrongly stays so
        lines += ["", "try:", "    from ftfy import fix_text", "except ImportError:"]
        lines += ["    fix_text = str", ""]
    return "\n".join([*lines, ""])
