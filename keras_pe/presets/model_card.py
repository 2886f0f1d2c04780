"""The model card of a preset, in the Hugging Face Hub's format: YAML, then Markdown."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_pe.presets.checksums import METADATA, read_metadata, read_verified
from keras_pe.presets.hub import CONFIG

README = "README.md"  # what the Hub calls it
# What the Hub calls what a model does. Others give features.
TASKS = {
    "PECore": "zero-shot-image-classification",
    "ImageClassifier": "image-classification",
    "VisionLanguageModel": "image-text-to-text",
}
FEATURES = "image-feature-extraction"
TAGS = ("keras", "keras_pe", "perception-encoder", "vision-encoder")


def front_matter(
    kind: str,
    license_name: str | None = None,
    datasets: Sequence[str] = (),
    name: str | None = None,
    results: Sequence[Any] = (),
) -> str:
    """Returns what the Hub reads of a card: YAML between two lines of dashes.

    Args:
        kind: class of the model, such as "PECore".
        license_name: of the weights, as the Hub spells it; None says nothing.
        datasets: what it was trained on.
        name: of the model, where there are results.
        results: `huggingface_hub.EvalResult` each.

    Source: https://huggingface.co/docs/hub/model-cards

    Example:
        >>> front_matter("PECore", "apache-2.0").splitlines()[:3]
        ['---', 'library_name: keras', 'license: apache-2.0']
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        license=license_name,
        library_name="keras",
        pipeline_tag=TASKS.get(kind, FEATURES),
        tags=list(TAGS),
        datasets=list(datasets) or None,
        model_name=name,
        eval_results=list(results) or None,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def model_card(directory: Path, handle: str) -> str:
    """Returns the card of a preset: its own, or one that says how it is loaded.

    Args:
        directory: the preset. Its own card is `README.md` in it, or a page of its name
            beside it that begins with YAML, `flowers.md` beside `flowers`.
        handle: by which it is to be loaded, `hf://owner/name`.

    Raises:
        CheckpointError: if the directory is no preset, or damaged.
    """
    own, beside = directory / README, directory.resolve()
    beside = beside.with_name(f"{beside.name}.md")
    if own.is_file():
        return own.read_text(encoding="utf-8")
    # Another page of this name is not to be published by mistake.
    if beside.is_file() and (found := beside.read_text("utf-8")).startswith("---\n"):
        return found
    metadata = read_metadata(directory)
    kind = read_verified(directory, CONFIG, metadata)["class_name"]
    package = "keras_pe.language" if kind == "VisionLanguageModel" else "keras_pe"
    return f"""{front_matter(kind)}
# {handle.rpartition("/")[2]}

A `{kind}` of [keras_pe](https://arxiv.org/abs/2504.13181), Perception Encoder for Keras
3 on JAX, PyTorch and TensorFlow; `{METADATA}` has the checksums of its files.

```python
import {package}

model = {package}.{kind}.from_preset("{handle}")
```

Its author has not said what it was trained on, what it can do and can't, and under
which licence it is: edit this card.
"""
