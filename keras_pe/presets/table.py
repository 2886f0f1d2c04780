"""The preset table: our names, what they are, and where their weights are.

Source of the scores: the model card (facebookresearch/perception_models,
apps/pe/README.md); Perception Encoder, tables 5, 6, 10, 12 and 13 to 15, agree where
they have the model.
"""

from collections.abc import Iterable, Mapping
from typing import Any, get_args

from keras_pe.presets.table_row import LANGUAGE_PARAMETERS as LANGUAGE_PARAMETERS
from keras_pe.presets.table_row import ClassName
from keras_pe.presets.table_row import Preset as Preset
from keras_pe.presets.table_row import Source as Source

MODEL_CARD = "facebookresearch/perception_models, apps/pe/README.md"
CORE_BENCHMARKS = (
    "ImageNet-1k zero-shot top-1",
    "ImageNet-v2 zero-shot top-1",
    "ImageNet-A zero-shot top-1",
    "ObjectNet zero-shot top-1",
    "COCO text-to-image R@1",
    "Kinetics-400 zero-shot top-1",
    "VTT text-to-video R@1",
)
LANG_BENCHMARKS = (
    "DocVQA",
    "InfoQA",
    "TextVQA",
    "MVBench",
    "PerceptionTest",
    "EgoSchema",
)
LANG_SETTING = "frozen encoder, 448 px without tiling, Llama 3.1 8B"
TILING_SETTING = "36+1 tiles, tuned with PLM"
SPATIAL_BENCHMARKS = ("ADE20k linear probe mIoU", "DAVIS zero-shot J&F")


def _upstream(official: str) -> Source:
    return Source(f"facebook/{official}", f"{official}.pt")


def _core(
    name: str,
    official: str,
    open_clip: str,
    description: str,
    parameters: int,
    scores: Iterable[float],
) -> Preset:
    # Names: open_clip `pretrained.py` and timm `eva.py`, "hf_hub" entries.
    timm = name.replace("pe_core", "vit_pe_core") + ".fb"
    return Preset(
        name,
        "PECore",
        description,
        official,
        parameters,
        dict(zip(CORE_BENCHMARKS, scores, strict=True)),
        MODEL_CARD,
        (
            Source(f"timm/{open_clip}", "open_clip_model.safetensors"),
            _upstream(official),
            Source(f"timm/{timm}", "model.safetensors", vision_only=True),
        ),
    )


def _vision(
    class_name: ClassName,
    name: str,
    official: str,
    timm: str,
    description: str,
    parameters: int,
    scores: Mapping[str, float],
    setting: str = "",
) -> Preset:
    return Preset(
        name,
        class_name,
        description,
        official,
        parameters,
        scores,
        MODEL_CARD + (f"; {setting}" if setting else ""),
        (Source(f"timm/{timm}", "model.safetensors"), _upstream(official)),
    )


def _lang(
    name: str,
    official: str,
    timm: str,
    description: str,
    parameters: int,
    scores: Iterable[float],
    setting: str,
) -> Preset:
    found = dict(zip(LANG_BENCHMARKS, scores, strict=True))
    return _vision(
        "PELang", name, official, timm, description, parameters, found, setting
    )


def _spatial(
    name: str,
    official: str,
    description: str,
    parameters: int,
    scores: Iterable[float],
    **more: float,
) -> Preset:
    found = dict(zip(SPATIAL_BENCHMARKS, scores, strict=True))
    found |= {key.replace("_", " "): value for key, value in more.items()}
    timm = f"vit_{name}.fb"
    return _vision("PESpatial", name, official, timm, description, parameters, found)


_ROWS = (
    # === Core: dual encoders ===
    _core(
        "pe_core_tiny_patch16_384",
        "PE-Core-T16-384",
        "PE-Core-T-16-384",
        "Smallest dual encoder of images, videos and texts.",
        69_545_601,
        (62.1, 54.7, 21.1, 43.9, 33.0, 41.5, 28.8),
    ),
    _core(
        "pe_core_small_patch16_384",
        "PE-Core-S16-384",
        "PE-Core-S-16-384",
        "Small dual encoder of images, videos and texts.",
        87_187_713,
        (72.7, 65.0, 49.5, 60.0, 42.6, 55.0, 39.3),
    ),
    _core(
        "pe_core_base_patch16_224",
        "PE-Core-B16-224",
        "PE-Core-B-16",
        "Base dual encoder of images, videos and texts.",
        447_659_521,
        (78.4, 71.7, 62.4, 71.9, 50.9, 65.6, 47.6),
    ),
    _core(
        "pe_core_large_patch14_336",
        "PE-Core-L14-336",
        "PE-Core-L-14-336",
        "Large dual encoder of images, videos and texts.",
        671_137_793,
        (83.5, 77.9, 89.0, 84.7, 57.1, 73.4, 50.3),
    ),
    _core(
        "pe_core_gigantic_patch14_448",
        "PE-Core-G14-448",
        "PE-Core-bigG-14-448",
        "Largest dual encoder, from which the others were distilled.",
        2_419_266_561,
        (85.4, 80.2, 92.6, 88.2, 58.1, 76.9, 51.2),
    ),
    Preset(
        "pe_core_emoji_patch8_64",
        "PECore",
        "Tiny dual encoder trained on images of emoji; works offline.",
    ),
    Preset(
        "pe_core_emoji_small_patch8_64",
        "PECore",
        "Half of its vision blocks, distilled from it; works offline.",
    ),
    # === Lang: vision encoders for language models ===
    _lang(
        "pe_lang_large_patch14_448",
        "PE-Lang-L14-448",
        "vit_pe_lang_large_patch14_448.fb",
        "Large vision encoder aligned to a language model.",
        291_415_040,
        (81.9, 46.4, 73.0, 52.3, 54.7, 59.8),
        LANG_SETTING,
    ),
    _lang(
        "pe_lang_gigantic_patch14_448",
        "PE-Lang-G14-448",
        "vit_pe_lang_gigantic_patch14_448.fb",
        "Largest vision encoder aligned to a language model.",
        1_740_922_624,
        (84.4, 48.3, 75.2, 52.4, 56.0, 62.0),
        LANG_SETTING,
    ),
    _lang(
        "pe_lang_large_patch14_448_tiling",
        "PE-Lang-L14-448-Tiling",
        "vit_pe_lang_large_patch14_448.fb_tiling",
        "Large vision encoder aligned to a language model on tiled images.",
        291_415_040,
        (93.8, 74.6, 84.3, 74.7, 79.3, 66.9),
        f"PLM-3B, {TILING_SETTING}",
    ),
    _lang(
        "pe_lang_gigantic_patch14_448_tiling",
        "PE-Lang-G14-448-Tiling",
        "vit_pe_lang_gigantic_patch14_448.fb_tiling",
        "Largest vision encoder aligned to a language model on tiled images.",
        1_740_922_624,
        (94.6, 80.9, 86.5, 77.1, 82.7, 68.8),
        f"PLM-8B, {TILING_SETTING}",
    ),
    Preset(
        "pe_lang_emoji_patch8_64",
        "PELang",
        "Tiny vision encoder for language models that look at drawings; works offline.",
        folder="pe_captioner_emoji_patch8_64",  # whose encoder it is
    ),
    Preset(
        "pe_captioner_emoji_patch8_64",
        "VisionLanguageModel",
        "Tiny model that names drawings and reads printed words; works offline.",
    ),
    # === Spatial: vision encoders for dense prediction ===
    _spatial(
        "pe_spatial_tiny_patch16_512",
        "PE-Spatial-T16-512",
        "Smallest vision encoder for dense prediction.",
        5_683_200,
        (27.6, 55.0),
    ),
    _spatial(
        "pe_spatial_small_patch16_512",
        "PE-Spatial-S16-512",
        "Small vision encoder for dense prediction.",
        21_983_232,
        (37.5, 57.5),
    ),
    _spatial(
        "pe_spatial_base_patch16_512",
        "PE-Spatial-B16-512",
        "Base vision encoder for dense prediction.",
        86_433_792,
        (44.4, 58.9),
    ),
    _spatial(
        "pe_spatial_large_patch14_448",
        "PE-Spatial-L14-448",
        "Large vision encoder for dense prediction.",
        303_964_160,
        (48.1, 60.6),
    ),
    _spatial(
        "pe_spatial_gigantic_patch14_448",
        "PE-Spatial-G14-448",
        "Largest vision encoder for dense prediction, teacher of the others.",
        1_851_887_104,
        (49.3, 61.5),
        LVIS_box_mAP=54.2,
        LVIS_mask_mAP=49.3,
        COCO_box_mAP=66.0,
    ),
    Preset(
        "pe_spatial_emoji_patch8_64",
        "PESpatial",
        "Tiny vision encoder for dense prediction on drawings; works offline.",
    ),
)
PRESETS: dict[str, Preset] = {preset.name: preset for preset in _ROWS}


# === What each class loads ===
def presets_of(cls: type) -> dict[str, dict[str, Any]]:
    """Returns the presets that a class loads.

    Args:
        cls: `PECore`, `PELang`, `PESpatial`, `VisionLanguageModel`, or
            `PEVisionEncoder`, which loads them all (of a dual encoder the vision tower,
            of a vision language model the encoder).

    Returns:
        Metadata by name: class, description, parameters, license, image_size,
        context_length, scores and their source, sources.

    Example:
        >>> import keras_pe
        >>> len(presets_of(keras_pe.PESpatial))
        6
    """
    bases = [base.__name__ for base in cls.__mro__]
    family = next((base for base in bases if base in get_args(ClassName)), None)
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
