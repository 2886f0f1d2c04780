"""The names of presets, by a pattern."""

import fnmatch

from keras_pe.presets.table import PRESETS


def list_presets(filter: str | None = None) -> list[str]:
    """Returns the names of the presets that `from_preset` knows.

    Args:
        filter: part of a name, or a pattern with `*`, `?` and `[...]` of all of it.
            Our names and the official ones count, in capitals or not. None lists all.

    Returns:
        Our names, in the order of the table: core, lang, spatial. What each is, how
        large, and where its weights are, says `PEVisionEncoder.presets[name]`.

    Raises:
        TypeError: if `filter` is no text.

    Example:
        >>> list_presets("emoji")
        ['pe_core_emoji_patch8_64', 'pe_core_emoji_small_patch8_64', \
'pe_lang_emoji_patch8_64', 'pe_captioner_emoji_patch8_64', 'pe_spatial_emoji_patch8_64']
        >>> list_presets("PE-Core-?14-*")
        ['pe_core_large_patch14_336', 'pe_core_gigantic_patch14_448']
    """
    if filter is None:
        return list(PRESETS)
    if not isinstance(filter, str):
        raise TypeError(
            f"filter must be a text such as 'core' or '*patch16*', got {filter!r:.80}."
        )
    pattern = filter.lower()
    if not any(sign in pattern for sign in "*?["):
        pattern = f"*{pattern}*"
    return [
        preset.name
        for preset in PRESETS.values()
        if any(
            fnmatch.fnmatchcase(name.lower(), pattern)
            for name in (preset.name, preset.official_name)
            if name is not None
        )
    ]
