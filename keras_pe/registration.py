"""Registers our classes with Keras as soon as both are there, and not before.

Keras finds a class of another package in its registry alone, never by importing the
module that a file names. So whoever has imported keras_pe and Keras must find ours
registered, without having touched one. Importing them at once would do, and would cost
seconds where nobody needs Keras, as in `keras-pe --help`. Instead, a finder in front of
the others waits until the outermost import of Keras or of a module of ours is complete;
if Keras is loaded then, the modules that register are imported. In the middle of an
import that would be too early: ours import each other.
"""

import importlib
import importlib.abc
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

REGISTERING = (
    "keras_pe.finetuning.classifier_model",
    "keras_pe.language.small_decoder",
    "keras_pe.layers.projector",
    "keras_pe.models.aligned",
    "keras_pe.models.core",
    "keras_pe.models.feature_pyramid",
    "keras_pe.preprocessing.image",
    "keras_pe.preprocessing.tokenizer",
    "keras_pe.preprocessing.video",
)


def register_with_keras() -> None:
    """Imports the modules that register classes, now or once Keras is imported."""
    if "keras" in sys.modules:
        _register()
    elif not any(isinstance(finder, _Waiting) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Waiting())


def _register() -> None:
    for name in REGISTERING:
        importlib.import_module(name)


class _Waiting(importlib.abc.MetaPathFinder):
    """Finds nothing itself: wraps what the other finders find."""

    def __init__(self) -> None:
        self.depth = 0

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Returns the spec of Keras and of our modules, with a loader that tells."""
        if fullname != "keras" and not fullname.startswith("keras_pe."):
            return None
        for finder in list(sys.meta_path):
            if finder is not self:
                spec = finder.find_spec(fullname, path, target)
                if spec is not None:
                    self._watch(spec)
                    return spec
        return None

    def _watch(self, spec: ModuleSpec) -> None:
        loader = spec.loader
        if loader is None:
            return
        load = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            self.depth += 1
            try:
                load(module)
            finally:
                self.depth -= 1
            if self.depth == 0 and "keras" in sys.modules and self in sys.meta_path:
                sys.meta_path.remove(self)
                _register()

        loader.exec_module = exec_module  # type: ignore[method-assign]
