"""One row of the preset table: a preset, and what is known of it."""

import dataclasses
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from keras_pe.presets import variants
from keras_pe.presets.report import CheckpointError

ClassName = Literal["PECore", "PELang", "PESpatial", "VisionLanguageModel"]
# What metadata.json of a vision language model counts, beside its encoder's.
LANGUAGE_PARAMETERS = "language_parameter_count"


@dataclasses.dataclass(frozen=True)
class Source:
    """A file of weights on the Hugging Face Hub.

    Attributes:
        repo: owner and name.
        file: name of the file there.
        vision_only: whether it holds the vision tower of a dual encoder alone.
    """

    repo: str
    file: str
    vision_only: bool = False


@dataclasses.dataclass(frozen=True)
class Preset:
    """One row of the table.

    Attributes:
        name: our name.
        class_name: the class that loads it.
        description: one sentence.
        official_name: Meta's name, an alias of ours; None for our own presets.
        parameters: exact count; None if the preset's own files say it.
        scores: published result by benchmark, in percent.
        scores_source: where they were published and in which setting.
        sources: where the weights are, best first; none if they ship with keras_pe.
        folder: of a preset that ships with keras_pe as a part of another one, the name
            of that one; None for a folder of its own.
    """

    name: str
    class_name: ClassName
    description: str
    official_name: str | None = None
    parameters: int | None = None
    scores: Mapping[str, float] = dataclasses.field(default_factory=dict)
    scores_source: str = ""
    sources: tuple[Source, ...] = ()
    license: str = "Apache-2.0"
    folder: str | None = None

    @property
    def directory(self) -> Path | None:
        """The directory inside the package, for a preset that ships with it."""
        if self.official_name is not None:
            return None
        package = Path(str(resources.files("keras_pe")))
        return package / "presets" / (self.folder or self.name)

    def vision_config(self) -> dict[str, Any]:
        """Returns the vision tower's constructor arguments."""
        if self.official_name is not None:
            return variants.vision_config(self.official_name)
        return self._own_config("vision_encoder")

    def text_config(self) -> dict[str, Any] | None:
        """Returns the text tower's constructor arguments, or None."""
        if self.official_name is not None:
            return variants.text_config(self.official_name)
        return self._own_config("text_encoder")

    def _own_config(self, tower: str) -> Any:
        assert self.directory is not None
        path = self.directory / "config.json"
        if not path.is_file():
            raise CheckpointError(
                f"The preset {self.name} ships with keras_pe, but {path} is missing: "
                f"the installation is damaged. Reinstall keras_pe."
            )
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
        if self.class_name == "PECore":
            return config[tower]["config"]
        return config if tower == "vision_encoder" else None

    def metadata(self) -> dict[str, Any]:
        """Returns what `PECore.presets` tells about it."""
        parameters = self.parameters
        if parameters is None and self.directory is not None:
            path = self.directory / "metadata.json"
            if path.is_file():
                content = json.loads(path.read_text(encoding="utf-8"))
                parameters = content["parameter_count"]
                if self.class_name == "VisionLanguageModel":
                    parameters += content[LANGUAGE_PARAMETERS]
        known = self.official_name is not None or parameters is not None
        text = self.text_config() if known else None
        return {
            "class": self.class_name,
            "description": self.description,
            "official_name": self.official_name,
            "parameters": parameters,
            "license": self.license,
            "image_size": self.vision_config()["image_size"] if known else None,
            "context_length": text["context_length"] if text else None,
            "scores": dict(self.scores),
            "scores_source": self.scores_source,
            "sources": [f"hf://{source.repo}:{source.file}" for source in self.sources]
            or ["ships with keras_pe"],
        }
