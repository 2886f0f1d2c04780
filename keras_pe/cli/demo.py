"""Show what the bundled model makes of drawings that it has never seen.

The model was trained by this project on the drawings of several emoji vendors. The
images come from another one. They are named among eight words and among all 1,364
emoji names that the preset knows, searched by words, and searched for where a word is.
"""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_pe.cli.common import BUNDLED_PRESET, PresetParts, add_json, load, path, tell
from keras_pe.cli.output import print_json, printable

if TYPE_CHECKING:
    from keras_pe.cli.demo_figure import Findings
    from keras_pe.evaluation.zero_shot import Prediction

HELP = "show what the bundled model sees"
EPILOG = """example:
  keras-pe demo --output demo.png
"""
IMAGES = Path(__file__).parent / "demo_images"
TOP_K = 3
QUERIES = ("a plant", "food", "music", "snow")  # none is the name of an image


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of this command."""
    parser.add_argument(
        "--output",
        type=path,
        default=Path("keras_pe_demo.png"),
        metavar="FILE",
        help="file of the figure (default: keras_pe_demo.png)",
    )
    add_json(parser, "the answers")


def run(options: argparse.Namespace) -> int:
    """Looks at the demo images, prints what was found, draws the figure."""
    from keras_pe.files import check_file_target, file_aside

    check_file_target(options.output)
    if "jax" not in sys.modules:
        # Every function runs once here: optimising it costs a second and gains nothing.
        os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")
    start = time.perf_counter()
    tell("1/4  importing Keras and its backend")
    import keras

    tell(f"2/4  loading {BUNDLED_PRESET} on {keras.backend.backend()}")
    loaded = load(BUNDLED_PRESET)
    paths = sorted(IMAGES.glob("*.png"))
    tell(f"3/4  looking at {len(paths)} drawings; the first look compiles the model")
    findings = look(loaded, paths)
    tell("4/4  drawing")
    from keras_pe.cli.demo_figure import draw

    with file_aside(options.output) as aside:
        draw(findings).save(aside)
    seconds = time.perf_counter() - start
    if options.json:
        print_json(as_json(findings))
    else:
        print_findings(findings)
        print(f"{seconds:.1f} s. Figure: {printable(options.output)}")
    return 0


def look(loaded: PresetParts, paths: Sequence[Path]) -> "Findings":
    """Names, searches and locates the images."""
    import numpy as np
    from PIL import Image

    from keras_pe.cli.demo_figure import Findings
    from keras_pe.evaluation.zero_shot import ZeroShotClassifier
    from keras_pe.models.compiled import called_once
    from keras_pe.models.embedding import class_vectors, embed_texts
    from keras_pe.preprocessing.prompts import known_classes
    from keras_pe.visualization.patch_embeddings import contributions

    known = known_classes(loaded.metadata, BUNDLED_PRESET)
    if known is None:
        raise ValueError(f"{BUNDLED_PRESET} names no classes: install keras-pe again.")
    names, templates = known
    loaded.tokenizer.on_truncation = "ignore"  # a few long names of known classes
    matrix = loaded.class_matrix
    if matrix is None:  # a preset of one's own, in the place of the bundled one
        matrix, _ = class_vectors(loaded.model, loaded.tokenizer, names, templates)
    labels = [path.stem.replace("_", " ") for path in paths]
    few = matrix[[names.index(label) for label in labels]]

    def classifier(class_names: Sequence[str], vectors: np.ndarray) -> Any:
        return ZeroShotClassifier(
            loaded.model,
            loaded.tokenizer,
            class_names,
            templates,
            loaded.image_converter,
            batch_size=len(paths),
            class_matrix=vectors,
        )

    images = [Image.open(path).convert("RGBA") for path in paths]
    with called_once():
        # One pass gives the embeddings and what each patch adds to them.
        encoder = loaded.model.vision_encoder
        parts = contributions(encoder, loaded.image_converter(paths))
        queries = embed_texts(loaded.model, loaded.tokenizer, QUERIES, len(QUERIES))
    embeddings = parts.total()
    own = few - few.mean(axis=0)  # what speaks for this word, not for all of them
    return Findings(
        labels=labels,
        images=images,
        among_few=classifier(labels, few).predict_embeddings(embeddings, 1),
        among_all=classifier(names, matrix).predict_embeddings(embeddings, TOP_K),
        num_names=len(names),
        queries=list(QUERIES),
        matches=queries @ embeddings.T,
        maps=np.einsum("brcd,bd->brc", parts.patches, own),
        num_parameters=loaded.metadata["parameter_count"],
    )


# === Words ===
def print_findings(findings: "Findings") -> None:
    """Prints two tables."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    count = len(findings.labels)
    table = Table(title=f"{count} drawings by a vendor the model has never seen")
    table.add_column("drawing")
    table.add_column(f"of {count} names")
    table.add_column(f"best of {findings.num_names:,} names")
    for place in ("second", "third"):
        table.add_column(place)
    for label, few, many in zip(
        findings.labels, findings.among_few, findings.among_all, strict=True
    ):
        answers = [_answer(few[0], label), _answer(many[0], label)]
        table.add_row(label, *answers, *(_named(other, label) for other in many[1:]))
    console.print(table)
    for query, scores in zip(findings.queries, findings.matches, strict=True):
        best = [findings.labels[row] for row in (-scores).argsort()[:TOP_K]]
        console.print(
            f'search "{query}": [bold]{best[0]}[/bold], {", ".join(best[1:])}'
        )
    console.print(
        f"{findings.num_right(findings.among_few)} of {count} right among {count} "
        f"names, {findings.num_right(findings.among_all)} among "
        f"{findings.num_names:,} (+ right, x wrong)."
    )


def _answer(prediction: "Prediction", label: str) -> str:
    """Marks an answer with a sign: colours are lost in a pipe or a file."""
    sign = "+" if prediction.name == label else "[red]x[/red]"
    return f"{sign} {_named(prediction, label)}"


def _named(prediction: "Prediction", label: str) -> str:
    from rich.markup import escape

    text = escape(printable(f"{prediction.name} ({prediction.probability:.0%})"))
    return f"[green]{text}[/green]" if prediction.name == label else text


def as_json(findings: "Findings") -> dict[str, object]:
    """Returns what was found as JSON values."""

    def answers(best: list["Prediction"]) -> list[dict[str, object]]:
        return [{"class": p.name, "probability": p.probability} for p in best]

    rows = zip(findings.labels, findings.among_few, findings.among_all, strict=True)
    return {
        "images": [
            {"image": label, "among_few": answers(few), "among_all": answers(many)}
            for label, few, many in rows
        ],
        "search": {
            query: [findings.labels[row] for row in (-scores).argsort()]
            for query, scores in zip(findings.queries, findings.matches, strict=True)
        },
    }
