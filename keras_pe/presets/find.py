"""Finds presets by name, alias, repository or class."""

import difflib
from typing import Any

from keras_pe.presets.report import CheckpointError
from keras_pe.presets.table import PRESETS, Preset


def find_preset(name: str) -> Preset | None:
    """Returns the preset of a name or alias, or None.

    Args:
        name: our name or the official one; upper and lower case are the same.

    Example:
        >>> find_preset("pe-core-l14-336").name
        'pe_core_large_patch14_336'
    """
    wanted = name.lower()
    for preset in PRESETS.values():
        names = filter(None, (preset.name, preset.official_name))  # not all have both
        if wanted in map(str.lower, names):
            return preset
    return None


def preset_of_repo(repo: str) -> Preset | None:
    """Returns the preset whose weights are in a repository of the Hub, or None.

    Args:
        repo: owner and name.

    Example:
        >>> preset_of_repo("facebook/PE-Lang-L14-448").name
        'pe_lang_large_patch14_448'
    """
    for preset in PRESETS.values():
        if any(source.repo.lower() == repo.lower() for source in preset.sources):
            return preset
    return None


def unknown_preset(name: str) -> CheckpointError:
    """Returns the error for a name that is none, with the closest ones."""
    known: dict[str, str] = {}  # lower case to the way it is written
    for preset in PRESETS.values():
        for spelling in filter(None, (preset.name, preset.official_name)):
            known[spelling.lower()] = spelling
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    if not close and len(wanted) > 2:  # "emoji", "gigantic"
        close = [key for key in known if wanted in key][:3]
    hint = f" Did you mean {', '.join(known[key] for key in close)}?" if close else ""
    return CheckpointError(
        f"Unknown preset {name!r}.{hint} Expected a name (keras_pe.PECore.presets "
        f"lists them), an existing directory or file, hf://owner/repo[@revision] or "
        f"kaggle://owner/model/framework/variation[/version]."
    )


def presets_of(cls: type) -> dict[str, dict[str, Any]]:
    """Returns the presets that a class loads.

    Args:
        cls: `PECore`, `PELang`, `PESpatial`, or `PEVisionEncoder`, which loads them
            all (of a dual encoder the vision tower).

    Returns:
        Metadata by name: class, description, parameters, license, image_size,
        context_length, scores and their source, sources.

    Example:
        >>> import keras_pe
        >>> len(presets_of(keras_pe.PESpatial))
        5
    """
    bases = [base.__name__ for base in cls.__mro__]
    family = next((b for b in bases if b in ("PECore", "PELang", "PESpatial")), None)
    return {
        name: preset.metadata()
        for name, preset in PRESETS.items()
        if family in (None, preset.class_name)
    }


class PresetsProperty:
    """Gives a class the table of its presets: `PECore.presets`.

    A descriptor, because `property` needs an instance.
    """

    def __get__(self, instance: Any, owner: type) -> dict[str, dict[str, Any]]:
        return presets_of(owner)
