"""What of a notebook's outputs is committed: small, and the same on every machine."""

import base64
import io
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from PIL import Image, ImageChops, ImageStat

MOST_BYTES = 400_000
WIDEST = 840  # pixels of a picture
COLOURS = 256
# Root of the mean square, of 255, by which a palette may change a picture's pixels, and
# JPEG's quality where it would change them more.
LARGEST_STEP, QUALITY = 3.0, 80
# A folder of a machine: none of it stands in what a reader sees.
MACHINE = re.compile(
    r"(?:/(?:home|root|Users|tmp|var|opt|usr|mnt)/|[A-Z]:\\)\S*"
    r"|site-packages\S*"
)


def clean(node: NotebookNode) -> list[str]:
    """Makes outputs small, drops what is printed to stderr; returns the latter.

    Args:
        node: executed; changed in place.
    """
    dropped = []
    for number, cell in enumerate(
        cell for cell in node.cells if cell.cell_type == "code"
    ):
        kept = []
        for output in cell.outputs:
            if output.output_type == "stream" and output.name == "stderr":
                dropped.append(output.text)
                continue
            output.pop("metadata", None)
            if "data" in output:
                output.metadata = {}
                if "image/png" in output.data:
                    kind, picture = small_picture(output.data.pop("image/png"))
                    output.data[kind] = picture
            if output.output_type == "execute_result":
                output.execution_count = number + 1
            kept.append(output)
        cell.outputs = kept
        cell.execution_count = number + 1
        cell.metadata = {}
    node.metadata = {
        name: node.metadata[name] for name in ("kernelspec", "language_info")
    }
    node.metadata["language_info"] = {"name": "python"}
    return dropped


def small_picture(encoded: str) -> tuple[str, str]:
    """Returns a picture no wider than `WIDEST`, as a small file, in base64.

    Plots and drawings have few colours: a PNG of 256 keeps them. Photographs become
    steps of colour that way; they are a JPEG.

    Args:
        encoded: a PNG, in base64.

    Returns:
        "image/png" or "image/jpeg", and the picture.
    """
    with Image.open(io.BytesIO(base64.b64decode(encoded))) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, (0, 0), image.convert("RGBA"))
    if flat.width > WIDEST:
        height = round(flat.height * WIDEST / flat.width)
        flat = flat.resize((WIDEST, height), Image.Resampling.LANCZOS)
    few = flat.quantize(COLOURS, dither=Image.Dither.NONE)
    difference = ImageChops.difference(flat, few.convert("RGB"))
    buffer = io.BytesIO()
    if max(ImageStat.Stat(difference).rms) > LARGEST_STEP:
        # Lines and letters keep their colours: 4:4:4.
        flat.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
        kind = "image/jpeg"
    else:
        few.save(buffer, "PNG", optimize=True)
        kind = "image/png"
    return kind, base64.b64encode(buffer.getvalue()).decode()


def faults(node: NotebookNode, root: Path) -> list[str]:
    """Returns what keeps an executed notebook from being committed; none: nothing.

    Args:
        node: after `clean`.
        root: of the repository on this machine.
    """
    found = []
    outputs = [
        output
        for cell in node.cells
        if cell.cell_type == "code"
        for output in cell.outputs
    ]
    if not outputs:
        found.append("has no outputs")
    for output in outputs:
        if output.output_type == "error":
            found.append(f"has an error: {output.ename}: {output.evalue}")
        if output.get("name") == "stderr":
            found.append(f"has what went to stderr: {output.text[:80]!r}")
        texts = [str(output.get("text", ""))]
        data = output.get("data", {})
        texts += [str(data[kind]) for kind in data if not kind.startswith("image/")]
        places = [place for text in texts for place in MACHINE.findall(text)]
        places += [str(root) for text in texts if str(root) in text]
        found += [f"names a place of this machine: {place!r}" for place in places]
    found += [
        f"{cell.id} has metadata: {dict(cell.metadata)}"
        for cell in node.cells
        if cell.metadata
    ]
    size = len(nbformat.writes(node).encode())
    if size > MOST_BYTES:
        found.append(f"has {size:,} bytes, more than {MOST_BYTES:,}")
    return found
