"""What a page works on: a model, and what visitors may read."""

import dataclasses
import os

from keras_pe.app.allowed_folder import AllowedFolder
from keras_pe.app.asking import BUNDLED_CAPTIONER, Captioner
from keras_pe.models.preset_parts import PresetParts, load_parts
from keras_pe.search import ImageIndex

BUNDLED_PRESET = "pe_core_emoji_patch8_64"


@dataclasses.dataclass(frozen=True)
class AppSettings:
    """What a page works on.

    Attributes:
        preset: name or place of the model, shown in the page.
        parts: the model and what prepares its inputs.
        folder: whose pictures a visitor may see; None for uploads alone.
        index: an index that every visitor may search; None for none.
        captioner: what answers questions, whatever the model is.

    Example:
        >>> loaded = load_settings("pe_core_emoji_small_patch8_64")
        >>> settings = AppSettings("mine", loaded.parts)
        >>> settings.folder is None    # uploads alone
        True
    """

    preset: str
    parts: PresetParts
    folder: AllowedFolder | None = None
    index: ImageIndex | None = None
    captioner: Captioner = dataclasses.field(
        default_factory=lambda: Captioner(BUNDLED_CAPTIONER)
    )


def load_settings(
    preset: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    index: str | os.PathLike[str] | None = None,
    captioner: str | os.PathLike[str] | None = None,
) -> AppSettings:
    """Loads what a page works on.

    Args:
        preset: a dual encoder, as of `PECore.from_preset`; None for that of the index,
            else for the one in the package.
        folder: whose pictures visitors may see; None for none.
        index: what `keras-pe index` wrote, for visitors to search; None for none.
        captioner: a vision language model, as of `VisionLanguageModel.from_preset`,
            that answers questions; None for the one in the package. It is loaded when
            it is first asked.

    Raises:
        CheckpointError: as `PECore.from_preset`; if the captioner is none.
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
    answering = Captioner(captioner or BUNDLED_CAPTIONER)
    parts = load_parts(preset)
    if opened is not None:
        opened.check_model(parts.model)
    return AppSettings(preset, parts, allowed, opened, answering)
