"""Tensor names of open_clip's `PE-Core-*` dual encoders: a timm and a text tower."""

from collections.abc import Iterable, Mapping
from typing import Any

from keras_pe.presets.assign import Rule, rule
from keras_pe.presets.formats import timm, upstream

Config = Mapping[str, Any]

VISION_PREFIX = "visual.trunk."


def vision_rules(config: Config, target: str = "") -> Iterable[Rule]:
    """Returns the rules of the vision tower."""
    yield from timm.vision_rules(config, VISION_PREFIX, target)


def text_rules(config: Config, target: str = "") -> Iterable[Rule]:
    """Returns the rules of the text tower, which has upstream's names."""
    yield from upstream.text_rules(config, "text.", target)


def core_rules(vision: Config, text: Config) -> Iterable[Rule]:
    """Returns the rules of a dual encoder."""
    yield from vision_rules(vision, "vision/")
    yield from text_rules(text, "text/")
    yield rule("logit_scale", (), "logit_scale")
