"""A classifier of one's own images in three lines: choose a preset, fit, predict."""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

import keras
import numpy as np

from keras_pe.arrays import check_sizes, softmax
from keras_pe.evaluation.intervals import Score
from keras_pe.evaluation.zero_shot import checked_class_names
from keras_pe.finetuning.class_features import cut_encoder, feature_channels
from keras_pe.finetuning.class_prediction import (
    ClassPrediction,
    best_classes,
)
from keras_pe.finetuning.class_scores import class_scores
from keras_pe.finetuning.classifier_fit import FitJob, check_draw, schedule_of
from keras_pe.finetuning.classifier_model import ClassificationHead, ClassifierModel
from keras_pe.finetuning.classifier_preset import (
    METHODS,
    SavedClassifier,
    check_head,
    check_names,
    load_classifier,
    save_classifier,
)
from keras_pe.finetuning.given_data import read_given
from keras_pe.finetuning.image_streams import Range
from keras_pe.finetuning.linear_head import PROBES, ProbeName
from keras_pe.finetuning.training_report import TrainingReport
from keras_pe.models.core import PECore
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.batches import load_batches
from keras_pe.preprocessing.image import PEImageConverter

Method = Literal["probe", "lora", "full"]


class ImageClassifier:
    """Learns to name images with classes of your own.

    A linear head on the encoder's standardised features; the encoder stays as it is
    ("probe"), gets low-rank updates ("lora") or is trained as a whole ("full"). The
    frozen encoder's features are computed once; the other two begin with a mild head
    that was learned on these, and fall back on the probe if they come to nothing
    better on the validation images.

    Args:
        encoder: a `PEVisionEncoder`, or a `PECore`, whose vision tower is taken. It is
            trained in place.
        class_names: names of the classes.
        method: "probe", "lora" or "full".
        layers: which layer the head reads: -1 for the last, which is the encoder's
            own output where it pools; a number k for the average patch of block k, and
            no later block is kept; "auto" has the validation images choose.
        image_converter: prepares images; None makes one of the encoder's size.
        lora_rank: of the updates.
        batch_size: images in a step, and in a forward pass.
        probe: what fits the head to the frozen features: "ridge", in closed form, or
            "logistic", slower, which needs SciPy. A factor, fitted to the validation
            images, makes logits of its outputs.

    Attributes:
        model: the `ClassifierModel`, a Keras model from images in [-1, 1] to logits.
        report: of the last `fit`; None before.

    Raises:
        ValueError: if a name or a number makes no sense.
        TypeError: if the encoder is none.

    Source: Kumar et al. 2022, "Fine-tuning can distort pretrained features", for the
        head that is learned first.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> images = rng.integers(0, 256, (40, 64, 64, 3), "uint8")
        >>> images[::2, :32] = 255    # every other one is white above
        >>> labels = ["white", "noise"] * 20
        >>> classifier = ImageClassifier.from_preset(
        ...     "pe_core_emoji_small_patch8_64", ["white", "noise"])
        >>> report = classifier.fit(images, labels, progress=False)
        >>> classifier.predict(images[0])[0][0].name
        'white'
    """

    def __init__(
        self,
        encoder: PEVisionEncoder | PECore,
        class_names: Sequence[str],
        method: Method = "probe",
        layers: int | Literal["auto"] = -1,
        image_converter: PEImageConverter | None = None,
        lora_rank: int = 8,
        batch_size: int = 32,
        probe: ProbeName = "ridge",
    ) -> None:
        if isinstance(encoder, PECore):
            encoder = encoder.vision_encoder
        if not isinstance(encoder, PEVisionEncoder):
            raise TypeError(
                f"encoder must be a PEVisionEncoder or a PECore, got "
                f"{type(encoder).__name__}. From the name of a preset: "
                f"ImageClassifier.from_preset(name, class_names)."
            )
        self.class_names = checked_class_names(class_names)
        check_names(self.class_names)
        if method not in METHODS:
            raise ValueError(f"method={method!r}: expected one of {METHODS}.")
        if probe not in PROBES:
            raise ValueError(f"probe={probe!r}: expected one of {tuple(PROBES)}.")
        check_sizes(lora_rank=lora_rank, batch_size=batch_size)
        self.probe = probe
        self.method: Method = method
        self.lora_rank, self.batch_size = lora_rank, batch_size
        self.image_converter = image_converter or PEImageConverter(encoder.image_size)
        self.report: TrainingReport | None = None
        self.layers: int | Literal["auto"] = layers
        if layers != "auto":
            if isinstance(layers, str):
                raise ValueError(f'layers={layers!r}: expected a number or "auto".')
            encoder = cut_encoder(encoder, layers)
            self.layers = encoder.num_layers
        self._encoder = encoder
        self._model: ClassifierModel | None = None

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike[str],
        class_names: Sequence[str] | None = None,
        method: Method | None = None,
        layers: int | Literal["auto"] = -1,
        *,
        dtype: Any = None,
        image_size: int | None = None,
        lora_rank: int = 8,
        batch_size: int = 32,
        probe: ProbeName = "ridge",
    ) -> Self:
        """Loads an encoder to be fitted to classes, or a classifier that was saved.

        Args:
            preset: as of `PEVisionEncoder.from_preset`.
            class_names: names of the classes; None for those of a saved classifier,
                which comes back as it was.
            method: as of this class; None is "probe", or what was saved.
            layers: as of this class; of a saved classifier the one it has.
            dtype: as of `PEVisionEncoder.from_preset`.
            image_size: as of `PEVisionEncoder.from_preset`.
            lora_rank: as of this class.
            batch_size: as of this class.
            probe: as of this class.

        Raises:
            CheckpointError: as `PEVisionEncoder.from_preset`; if no classes are named
                and the preset is no classifier.
        """
        more: dict[str, Any] = {
            "lora_rank": lora_rank,
            "batch_size": batch_size,
            "probe": probe,
        }
        if class_names is not None:
            checked_class_names(class_names)  # before gigabytes are downloaded
            encoder = PEVisionEncoder.from_preset(
                preset, dtype=dtype, image_size=image_size
            )
            size = {} if image_size is None else {"image_size": image_size}
            converter = PEImageConverter.from_preset(preset, **size)
            chosen = method or "probe"
            return cls(encoder, class_names, chosen, layers, converter, **more)
        saved = load_classifier(preset, dtype)
        kind: Any = method or saved.method
        found = cls(
            saved.encoder, saved.class_names, kind, -1, saved.image_converter, **more
        )
        channels = feature_channels(saved.encoder)
        check_head(saved.head, channels, len(saved.class_names), os.fspath(preset))
        model = ClassifierModel(
            saved.encoder, ClassificationHead(len(saved.class_names))
        )
        model.head.assign(saved.head)
        found._model = model
        return found

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.class_names[:3]))
        more = ", ..." if len(self.class_names) > 3 else ""
        state = "" if self._model is not None else ", not fitted"
        return (
            f"ImageClassifier({self._encoder.name}, {self.method}, "
            f"{len(self.class_names)} classes: {shown}{more}{state})"
        )

    @property
    def model(self) -> ClassifierModel:
        """The Keras model from images in [-1, 1] to logits.

        Raises:
            ValueError: before `fit`.
        """
        if self._model is None:
            raise ValueError(
                "The classifier has learned nothing yet: call fit(images, labels) "
                "first, or load one with from_preset(directory)."
            )
        return self._model

    # === Training ===
    def fit(
        self,
        data: Any,
        labels: Any = None,
        *,
        validation_data: Any = None,
        validation_share: float = 0.2,
        epochs: int | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        patience: int | None = None,
        columns: tuple[str, str] | None = None,
        value_range: Range | None = None,
        seed: int = 0,
        progress: bool = True,
        callbacks: Sequence[keras.callbacks.Callback] = (),
    ) -> TrainingReport:
        """Learns from labelled images; keeps what has the least validation loss.

        Args:
            data: images, with `labels`; or `(images, labels)`; a folder with one folder
                a class; a pandas DataFrame; or what yields batches `(images, labels)`:
                `tf.data`, a PyTorch `DataLoader`, a grain loader, a
                `keras.utils.PyDataset`, or a function that returns an iterable.
            labels: names of classes, or their places in `class_names`.
            validation_data: in any of these forms; None keeps back a share of `data`.
            validation_share: of each class; 0 for none, and then all epochs are made.
                Batches of loaders may come in another order each time: "lora" and
                "full" need `validation_data` with these.
            epochs: of "lora" and "full", at most so many; None is 10.
            learning_rate: of these, its peak; None is 3e-3, and 1e-4 for "full".
            weight_decay: of their AdamW; None is 1e-2.
            patience: epochs without a better validation loss after which these end;
                None is 3.
            columns: of a DataFrame, those of images and labels.
            value_range: what floats of a loader span; see `docs/fine_tuning.md`.
            seed: of the validation share, the order of images and new weights.
            progress: whether bars are shown.
            callbacks: of Keras, for "lora" and "full".

        Returns:
            A `TrainingReport`; `self.report` too.

        Raises:
            ValueError: if data, labels and classes do not fit together, or a class has
                no training image.
            ImageError: naming the first image that can't be read.
            NonFiniteError: if features or a loss are NaN or infinite.
        """
        check_draw(validation_share, seed)
        read = (self.class_names, columns, value_range)
        job = FitJob(
            encoder=self._encoder,
            class_names=self.class_names,
            method=self.method,
            choose_layer=self.layers == "auto",
            lora_rank=self.lora_rank,
            converter=self.image_converter,
            batch_size=self.batch_size,
            probe=self.probe,
            schedule=schedule_of(
                self.method, epochs, learning_rate, weight_decay, patience
            ),
            seed=seed,
            progress=progress,
            callbacks=callbacks,
        )
        self._model, self.report = job.run(
            read_given(data, labels, *read),
            None
            if validation_data is None
            else read_given(validation_data, None, *read),
            validation_share,
        )
        self._encoder, self.layers = self._model.encoder, self.report.layer
        return self.report

    # === Use ===
    def predict(
        self, images: Any, top_k: int = 5, progress: bool = False
    ) -> list[list[ClassPrediction]]:
        """Returns the best classes of each image, best first.

        Args:
            images: one image or several, as a `PEImageConverter` takes them.
            top_k: classes to return for each; at most the number of classes.
            progress: whether a progress bar is shown.

        Returns:
            One list of `ClassPrediction` an image, in the order given.

        Raises:
            ValueError: before `fit`, or if `top_k` is no whole number above 0.
            ImageError: naming the first image that can't be read.
        """
        check_sizes(top_k=top_k)
        probabilities = self.predict_probabilities(images, progress)
        return best_classes(probabilities, self.class_names, top_k)

    def predict_probabilities(self, images: Any, progress: bool = False) -> np.ndarray:
        """Returns the probability of each class, float32 `(images, classes)`.

        Args and raises: those of `predict`.
        """
        batches = load_batches(
            images,
            self.image_converter,
            self.batch_size,
            on_error="raise",
            progress=progress,
        )
        found = [self._logits(prepared, rows) for rows, prepared in batches]
        if not found:
            return np.zeros((0, len(self.class_names)), "float32")
        return softmax(np.concatenate(found)).astype("float32")

    def evaluate(
        self,
        data: Any,
        labels: Any = None,
        *,
        columns: tuple[str, str] | None = None,
        value_range: Range | None = None,
    ) -> dict[str, Score | float]:
        """Measures the classifier on images that it has not seen.

        Args: those of `fit`.

        Returns:
            `accuracy`, a `Score` with its 95 % interval over images; `loss`, the mean
            cross-entropy; and the accuracy of each class of which there are images,
            under its name, `"accuracy of cat"`.

        Raises: as `fit`.
        """
        given = read_given(data, labels, self.class_names, columns, value_range)
        logits, targets, count = [], [], 0
        for prepared, numbers in given.batches(self.image_converter, self.batch_size):
            logits.append(self._logits(prepared, count + np.arange(len(numbers))))
            targets.append(numbers)
            count += len(numbers)
        if not targets:
            raise ValueError("There are no images.")
        outputs = np.concatenate(logits)
        return class_scores(outputs, np.concatenate(targets), self.class_names)

    def _logits(self, prepared: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self.model.logits(prepared, rows, self.batch_size)

    # === Files ===
    def save_to_preset(
        self,
        directory: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        dtype: str | None = None,
    ) -> None:
        """Writes a preset: encoder, converter, names of classes and head, as data.

        `ImageClassifier.from_preset(directory)` brings it back;
        `PEVisionEncoder.from_preset(directory)` its encoder. Updates of LoRA are merged
        into the weights.

        Args:
            directory: where; made if missing.
            metadata: more to say in metadata.json; JSON values.
            dtype: of the encoder's weights in the file; None is its own.

        Raises:
            ValueError: before `fit`.
            CheckpointError: as `PEVisionEncoder.save_to_preset`.
        """
        model = self.model
        saved = SavedClassifier(
            model.encoder,
            self.image_converter,
            self.class_names,
            self.method,
            model.head.arrays(),
        )
        save_classifier(directory, saved, metadata, dtype)
