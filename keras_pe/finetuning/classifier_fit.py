"""The training of a classifier: features once, a head, and then perhaps the encoder."""

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import keras

from keras_pe.arrays import check_sizes, is_number, is_whole
from keras_pe.finetuning.class_features import cut_encoder
from keras_pe.finetuning.class_labels import check_every_class
from keras_pe.finetuning.classifier_model import ClassificationHead, ClassifierModel
from keras_pe.finetuning.feature_pass import (
    FeaturePass,
    best_layer,
    run_feature_pass,
)
from keras_pe.finetuning.given_data import GivenData, ImageList
from keras_pe.finetuning.image_streams import ImageStream
from keras_pe.finetuning.linear_head import FittedHead, fit_head, mild_head
from keras_pe.finetuning.recentre import Recentre
from keras_pe.finetuning.training_report import TrainingReport
from keras_pe.finetuning.training_steps import (
    BestEpoch,
    Schedule,
    image_batches,
    some_images,
    train,
)
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.probing.feature_store import FeatureStore

SCHEDULES: dict[str, Schedule] = {
    "lora": Schedule(10, 3e-3, 1e-2, 3),
    "full": Schedule(10, 1e-4, 1e-2, 3),
}


def schedule_of(
    method: str,
    epochs: int | None = None,
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    patience: int | None = None,
) -> Schedule | None:
    """Returns the schedule of a method, with what was said otherwise.

    None for "probe", whose head is found in one step.

    Raises:
        ValueError: if a number makes no sense.
    """
    said = (epochs, learning_rate, weight_decay, patience)
    if method == "probe":
        if any(value is not None for value in said):
            raise ValueError(
                "A probe is fitted in one step: it has no epochs, learning_rate, "
                'weight_decay or patience. Leave them out, or choose method="lora" or '
                '"full".'
            )
        return None
    usual = SCHEDULES[method]
    found = Schedule(
        usual.epochs if epochs is None else epochs,
        usual.learning_rate if learning_rate is None else learning_rate,
        usual.weight_decay if weight_decay is None else weight_decay,
        usual.patience if patience is None else patience,
    )
    check_sizes(epochs=found.epochs, patience=found.patience)
    for name, value in (
        ("learning_rate", found.learning_rate),
        ("weight_decay", found.weight_decay),
    ):
        least = value >= 0 if name == "weight_decay" else value > 0
        if not (least and value < math.inf):
            raise ValueError(f"{name}={value!r}: expected a finite number above 0.")
    return found


def check_draw(validation_share: Any, seed: Any) -> None:
    """Refuses a share of validation images, or a seed, that is none.

    Raises:
        ValueError: naming it.

    Example:
        >>> check_draw(validation_share=0.2, seed=0)
    """
    if not is_number(validation_share) or not 0 <= validation_share < 1:
        raise ValueError(
            f"validation_share={validation_share!r}: expected 0 to below 1."
        )
    if not is_whole(seed) or not 0 <= seed < 2**32:
        raise ValueError(
            f"seed={seed!r}: expected a whole number from 0 to {2**32 - 1}."
        )


@dataclasses.dataclass
class FitJob:
    """One training of a classifier.

    Attributes:
        encoder: that is read, and for "lora" and "full" trained in place.
        class_names: the classes.
        method: "probe", "lora" or "full".
        choose_layer: whether the validation images choose the layer.
        lora_rank: of the updates.
        converter: prepares the images.
        batch_size: images in a step.
        schedule: of the encoder's training; None for "probe".
        probe: what fits the head: "ridge" or "logistic".
        seed: of all that is drawn.
        progress: whether bars are shown.
        callbacks: of Keras.
    """

    encoder: PEVisionEncoder
    class_names: Sequence[str]
    method: str
    choose_layer: bool
    lora_rank: int
    converter: PEImageConverter
    batch_size: int
    schedule: Schedule | None
    probe: str
    seed: int
    progress: bool
    callbacks: Sequence[Any]

    def run(
        self, data: GivenData, validation: GivenData | None, share: float
    ) -> tuple[ClassifierModel, TrainingReport]:
        """Trains; returns the model and what was done.

        Args:
            data: to learn from.
            validation: to judge on; None keeps back a share.
            share: of `data` that is kept back.

        Raises:
            ValueError: if a class has no image, or a loader would have to be shared.
            NonFiniteError: if features or a loss are none.
        """
        if isinstance(data, ImageList):
            check_every_class(data.labels, self.class_names)
        elif self.method != "probe" and validation is None and share:
            raise ValueError(
                f'method="{self.method}" reads a loader anew each epoch, perhaps in '
                f"another order: no share of it can be kept back. Give "
                f"validation_data, or validation_share=0."
            )
        keras.utils.set_random_seed(int(self.seed))
        with FeatureStore() as store:
            passed = self._features(store, data, validation, share)
            layer, scores = passed.layers[-1], dict[int, float]()
            if self.choose_layer:
                layer, scores = best_layer(passed, self.seed)
            begun = time.perf_counter()
            count = len(self.class_names)
            head = fit_head(passed, layer, count, self.probe, self.seed)
            first = head.arrays
            if self.schedule is not None:
                first = mild_head(passed, layer, count, self.seed)
        model = ClassifierModel(
            cut_encoder(self.encoder, layer), ClassificationHead(len(self.class_names))
        )
        model.head.assign(first)
        best = BestEpoch(1, judged=False)
        if self.schedule is None:
            trained = model.head.trainable_variables
        else:
            best = self._train_encoder(model, data, validation, passed, head)
            if not best.best:  # no epoch was better than the probe: it is what is kept
                model.head.assign(head.arrays)
            trained = model.trainable_variables
        return model, TrainingReport(
            self.method,
            layer,
            scores,
            len(passed.train),
            len(passed.validation),
            sum(math.prod(variable.shape) for variable in trained),
            head.setting,
            head.validation,
            best.best,
            tuple(best.logs),
            time.perf_counter() - begun,
        )

    def _features(
        self,
        store: FeatureStore,
        data: GivenData,
        validation: GivenData | None,
        share: float,
    ) -> FeaturePass:
        """Runs the encoder once over all images."""
        last = self.encoder.num_layers
        return run_feature_pass(
            store,
            self.encoder,
            range(1, last + 1) if self.choose_layer else [last],
            data,
            validation,
            share,
            self.class_names,
            self.converter,
            self.batch_size,
            self.seed,
            self.progress,
        )

    def _train_encoder(
        self,
        model: ClassifierModel,
        data: GivenData,
        validation: GivenData | None,
        passed: FeaturePass,
        head: FittedHead,
    ) -> BestEpoch:
        """Trains all of the model, from a head that was learned on its features."""
        assert self.schedule is not None
        if isinstance(data, ImageList) and len(passed.train) < passed.from_data:
            validation = data.rows(passed.validation)
            data = data.rows(passed.train)
        encoder = model.encoder
        if self.method == "full":
            encoder.trainable = True
        elif not encoder.has_lora:
            encoder.enable_lora(self.lora_rank)
        size = min(self.batch_size, len(passed.train))
        steps = math.ceil(len(passed.train) / size)
        options: dict[str, int] = {}
        if isinstance(data, ImageStream):
            options = {"steps_per_epoch": steps, "shuffle": False}
        if isinstance(validation, ImageStream):
            options["validation_steps"] = math.ceil(len(passed.validation) / size)
        held = None
        if validation is not None:
            held = image_batches(validation, self.converter, size, None)
        seen = Recentre(lambda: some_images(data, self.converter, size))
        best = train(
            model,
            image_batches(data, self.converter, size, self.seed),
            steps,
            held,
            self.schedule,
            self.progress,
            [seen, *self.callbacks],
            head.validation.get("loss"),
            **options,
        )
        if held is None:  # else the best epoch's are there again
            seen.measure(model)
        return best
