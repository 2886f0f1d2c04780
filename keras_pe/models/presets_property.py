"""The class attribute `presets` of the models."""

from typing import Any


class PresetsProperty:
    """Gives a class the table of its presets: `PECore.presets`.

    A descriptor, because `property` needs an instance. The table is looked up when
    asked for: models do not import checkpoints.
    """

    def __get__(self, instance: Any, owner: type) -> dict[str, dict[str, Any]]:
        from keras_pe.checkpoints.presets import presets_of

        return presets_of(owner)
