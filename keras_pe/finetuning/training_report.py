"""What a classifier's training did."""

import dataclasses
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class TrainingReport:
    """What `ImageClassifier.fit` did.

    Attributes:
        method: "probe", "lora" or "full".
        layer: that the head reads.
        layer_scores: validation accuracy of a ridge probe by layer, where the layer was
            chosen; else empty.
        num_images: training images.
        num_validation: validation images.
        trained_parameters: how many numbers were trained.
        head: what was chosen for the head on the frozen features: its regulariser, and
            the factor that makes its outputs logits.
        head_validation: loss and accuracy of that head on the validation images; empty
            without any.
        best_epoch: whose weights were kept, from 1; 0 for "probe", or if no epoch was
            better than the head that training began with.
        epochs: loss, accuracy and their validation by epoch; none for "probe".
        seconds: of the training alone, without the pass of the frozen encoder.

    Example:
        >>> report = TrainingReport("lora", layer=6, layer_scores={}, num_images=80,
        ...     num_validation=20, trained_parameters=12_345, head={},
        ...     head_validation={"loss": 0.7, "accuracy": 0.8}, best_epoch=1,
        ...     epochs=({"val_loss": 0.5, "val_accuracy": 0.9},), seconds=3.0)
        >>> report.validation    # of the epoch that was kept
        {'loss': 0.5, 'accuracy': 0.9}
    """

    method: str
    layer: int
    layer_scores: Mapping[int, float]
    num_images: int
    num_validation: int
    trained_parameters: int
    head: Mapping[str, float]
    head_validation: Mapping[str, float]
    best_epoch: int
    epochs: tuple[Mapping[str, float], ...]
    seconds: float

    @property
    def validation(self) -> Mapping[str, float]:
        """Loss and accuracy of what was kept on the validation images, if any."""
        if not self.best_epoch or not self.head_validation:
            return self.head_validation
        kept = self.epochs[self.best_epoch - 1]
        return {name: kept[f"val_{name}"] for name in ("loss", "accuracy")}
