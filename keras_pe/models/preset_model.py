"""What all models that are loaded from presets share: `from_preset` and `presets`."""

import difflib
import os
from collections.abc import Mapping
from typing import Any, Self

from keras_pe.models.convert import Changes
from keras_pe.presets.from_preset import load_preset
from keras_pe.presets.table import PresetsProperty

OWN = ("dtype", "image_size", "load_weights")
CONVERTIBLE = ("patch_size", *Changes.__annotations__)


class PresetModel:
    """A model that a preset can hold."""

    presets = PresetsProperty()

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        dtype: Any = None,
        image_size: int | None = None,
        load_weights: bool = True,
        **changes: Any,
    ) -> Self:
        """Loads a preset: a model with its weights, downloaded once if need be.

        Args:
            preset: name (this class's `presets` lists them), official name, directory,
                file, `hf://owner/repo[@revision]` or `kaggle://...`. To
                `PEVisionEncoder` a dual encoder gives its vision tower.
            dtype: another dtype or policy, such as "bfloat16"; of a dual encoder that
                of both towers: its embeddings and its own policy stay float32.
            image_size: another size in pixels, of checkpoints in another project's
                format alone.
            load_weights: whether the preset's weights are loaded. With False the model
                has the preset's architecture and starts at random; no weights of a
                named preset are downloaded.
            changes: none. An architecture fits its weights: an error says what changes
                it after loading.

        Returns:
            The model. All of it is trainable, whatever was frozen when the preset was
            saved: to freeze a tower, set `model.vision_encoder.trainable = False`
            before `compile`.

        Raises:
            CheckpointError: if there is no such preset, it is of another family, a file
                is damaged or can't be downloaded, or an override does not work.
            TypeError: if there is any other argument.

        Example:
            >>> from keras_pe import PEVisionEncoder
            >>> PEVisionEncoder.from_preset("pe_core_emoji_patch8_64").num_layers
            6
            >>> tiny = PEVisionEncoder.from_preset("PE-Spatial-T16-512",
            ...     load_weights=False)
            >>> tiny.count_params()
            5683200
        """
        if changes:
            raise TypeError(_no_such_change(cls.__name__, preset, changes))
        model: Self = load_preset(
            cls,
            preset,
            dtype=dtype,
            image_size=image_size,
            load_weights=load_weights,
        )
        return model


def _no_such_change(name: str, preset: Any, changes: Mapping[str, Any]) -> str:
    """Says what to do in place of a change that `from_preset` does not make."""
    argument, value = next(iter(changes.items()))
    begin = f"{name}.from_preset has no argument {argument!r}. "
    near = difflib.get_close_matches(argument, OWN, 1, 0.8)
    if near:
        return f"{begin}Did you mean {near[0]}?"
    model = f"{name}.from_preset({os.fspath(preset)!r})"
    tower = "" if name != "PECore" else ".vision_encoder"
    if argument in CONVERTIBLE:
        return (
            f"{begin}A preset's weights fit its architecture; for another one convert "
            f"the loaded encoder: {model}{tower}.convert({argument}={value!r})."
        )
    if argument == "num_layers":
        return (
            f"{begin}To keep the first blocks alone: "
            f"{model}{tower}.truncate({value!r})."
        )
    return (
        f"{begin}A preset's weights fit its architecture: convert and truncate of the "
        f"loaded encoder change patches, sizes, windows and the number of blocks. For "
        f"anything else start at random: keras_pe.PEVisionEncoder(...), with arguments "
        f"from {name}.from_preset(preset, load_weights=False){tower}.get_config()."
    )
