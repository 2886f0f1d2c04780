"""What a page is started with, and starting it."""

import dataclasses
import importlib.util
import os

from keras_pe.app.allowed_folder import AllowedFolder
from keras_pe.models.preset_parts import PresetParts, load_parts
from keras_pe.search import ImageIndex

BUNDLED_PRESET = "pe_core_emoji_patch8_64"
HOST, PORT = "127.0.0.1", 7860
GRADIO_MISSING = (
    'The page is made by Gradio, which is missing: pip install "keras-pe[app]".'
)


@dataclasses.dataclass(frozen=True)
class AppSettings:
    """What a page works on.

    Attributes:
        preset: name or place of the model, shown in the page.
        parts: the model and what prepares its inputs.
        folder: whose pictures a visitor may see; None for uploads alone.
        index: an index that every visitor may search; None for none.

    Example:
        >>> load_settings("pe_core_emoji_small_patch8_64").folder is None
        True
    """

    preset: str
    parts: PresetParts
    folder: AllowedFolder | None = None
    index: ImageIndex | None = None


def load_settings(
    preset: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    index: str | os.PathLike[str] | None = None,
) -> AppSettings:
    """Loads what a page works on.

    Args:
        preset: a dual encoder, as of `PECore.from_preset`; None for that of the index,
            else for the one in the package.
        folder: whose pictures visitors may see; None for none.
        index: what `keras-pe index` wrote, for visitors to search; None for none.

    Raises:
        CheckpointError: as `PECore.from_preset`.
        ValueError: if there is no such folder or index, or the index is of another
            model.

    Example:
        >>> load_settings("pe_core_emoji_small_patch8_64").preset
        'pe_core_emoji_small_patch8_64'
    """
    allowed = None if folder is None else AllowedFolder(folder)
    opened = None if index is None else ImageIndex.open(index)
    if preset is None and opened is not None:
        preset = opened.preset
    preset = preset or BUNDLED_PRESET
    parts = load_parts(preset)
    if opened is not None:
        opened.check_model(parts.model)
    return AppSettings(preset, parts, allowed, opened)


def check_gradio() -> None:
    """Raises ImportError unless Gradio is installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError(GRADIO_MISSING)


def serve(
    settings: AppSettings | None = None,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Shows the page until it is stopped.

    Nothing is fetched from the network, nothing is reported to anybody, and no public
    link is made.

    Args:
        settings: from `load_settings`; None for the preset in the package.
        host: address to listen at; None takes GRADIO_SERVER_NAME, else 127.0.0.1,
            which only this machine reaches.
        port: None takes GRADIO_SERVER_PORT, else the first free one from 7860 on.

    Raises:
        ImportError: if Gradio is missing.
        OSError: if the port is taken.

    Example:
        >>> serve(load_settings(folder="photos"))                   # doctest: +SKIP
    """
    check_gradio()
    from keras_pe.app.server import launch

    launch(settings or load_settings(), host, port)
