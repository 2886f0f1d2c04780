"""What a loader says when it is done, and when it refuses."""

import dataclasses
from pathlib import Path


class CheckpointError(ValueError):
    """A checkpoint that can't be loaded; the model's weights are unchanged.

    Example:
        >>> from keras_pe import PECore
        >>> try:
        ...     PECore.from_preset("pe_core_bass_patch16_224")
        ... except CheckpointError as error:
        ...     print("pe_core_base_patch16_224" in str(error))
        True
    """


@dataclasses.dataclass(frozen=True)
class LoadReport:
    """Receipt of a load: what became of every tensor of the file.

    Attributes:
        path: the file.
        family: "upstream", "timm", "open_clip" or "keras_pe".
        num_tensors: tensors in the file.
        loaded: names of the tensors that were assigned, each exactly once.
        left_out: names that belong to a tower that the model does not have, and
            constants.
        resampled: names of position embeddings that were resampled, as asked.
        zeros: names of biases that are zero throughout and that the model lacks.
        dtypes: dtypes found in the file.
        wrappers: prefixes of names ("module.") and keys of mappings ("state_dict")
            that training tools had put around the weights.

    Example:
        >>> report = LoadReport(Path("PE-Core.pt"), "upstream", 2, ("proj", "bias"))
        >>> report.family, len(report.loaded) == report.num_tensors
        ('upstream', True)
    """

    path: Path
    family: str
    num_tensors: int
    loaded: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    resampled: tuple[str, ...] = ()
    zeros: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = ()
    wrappers: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = (
            f"Loaded {len(self.loaded)} of {self.num_tensors} tensors "
            f"({self.family} layout, {', '.join(self.dtypes)}) from {self.path.name}"
        )
        if self.left_out:
            text += f"; {len(self.left_out)} that the model does not have left out"
        if self.resampled:
            text += f"; resampled {', '.join(self.resampled)}"
        if self.zeros:
            text += f"; all zero and not needed: {', '.join(self.zeros)}"
        if self.wrappers:
            text += f"; without the wrappers {', '.join(self.wrappers)}"
        return text + "."
