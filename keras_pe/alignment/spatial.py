"""Spatial alignment in one call: sweep, choose the teacher, train, sweep again."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import keras
import numpy as np

from keras_pe.alignment.arguments import (
    LEARNING_RATE,
    check_numbers,
    checked_tasks,
    mask_teacher_of,
    optimizer_of,
)
from keras_pe.alignment.batches import AlignmentBatches, ImageData, Prepare
from keras_pe.alignment.report import AlignmentReport, gains
from keras_pe.alignment.subject import copies, given
from keras_pe.alignment.tasks import (
    Task,
    check_task,
    sweep_again,
    sweep_tasks,
    teacher_layer,
)
from keras_pe.arrays import NonFiniteError
from keras_pe.losses.correspondence import SHARPNESS, check_sharpness
from keras_pe.training.devices.batch_errors import RememberedErrors, as_it_was
from keras_pe.training.devices.distribution import static_batches
from keras_pe.training.optimizers.gradient_watch import StopOnNonFinite
from keras_pe.training.teachers.cached import with_mask_rows
from keras_pe.training.trainers.spatial_trainer import (
    SpatialAlignmentTrainer,
    check_losses,
)

ADVICE = (
    "The encoder that was given is as it was: align it again with a lower learning "
    "rate, gradient clipping, or float32."
)


def align_spatial(
    encoder: keras.Model,
    images: ImageData,
    masks: Any = None,
    *,
    layer: int | Literal["auto"] = "auto",
    tasks: Mapping[str, Task] | None = None,
    steps: int = 1000,
    batch_size: int = 16,
    learning_rate: float | None = None,
    optimizer: keras.Optimizer | None = None,
    mask_ratio: float = 0.75,
    feature_weight: float = 1.0,
    correspondence_weight: float = 1.0,
    sharpness: float | Literal["auto"] | None = "auto",
    background_weight: float = 1.0,
    flip: bool = True,
    prepare: Prepare | None = None,
    image_chunk_size: int | None = None,
    seed: int = 0,
    progress: bool = True,
) -> tuple[keras.Model, AlignmentReport]:
    """Moves the dense features of an inner layer to an encoder's last one.

    The layers are swept on the tasks, one is chosen to teach, a copy of the encoder is
    trained to give at its last layer what the teacher gives at that one, and its layers
    are swept again. With masks it also learns which patches belong together. The
    encoder that is given stays as it is.

    One of PE's becomes a `PESpatial`, with LayerScale and stochastic depth (0.1), and
    without pooling, projection and final norm: it has no zero-shot head. Any other
    becomes a copy of itself, of a `LayeredEncoder` one of the model that it reads. What
    lies behind the last block, a final norm for one, has not been trained: read the
    blocks. The patches that such a student does not see are painted over, for it has no
    mask embedding; see `LayeredEncoder`, which is also for models whose layers are not
    found by themselves.

    What masks and labels cost and give: the features need none. Masks sharpen which
    patches are alike, and pull on everything else; a task for what must not be lost,
    such as `Task("knn", (images, labels))`, says how much went. Tasks and images of
    this call should not be the same images.

    Args:
        encoder: a `PEVisionEncoder`, a `PECore`, or a functional Keras model that gives
            its layers, such as KerasHub's DINOv2 or CLIP vision encoders.
        images: to train on, all of one size: uint8, or floats as the encoder reads
            them, `(samples, height, width, 3)`. Where memory would not hold them: what
            gives batches of images, or of (images, masks), each time it is iterated
            over, or a function that returns such a thing.
        masks: which patches belong together: whole numbers `(samples, height, width)`,
            0 for what is no shape, else the number of its shape in the image (32 at
            most; smaller ones count as none); "teacher" for the teacher's own tokens; a
            function `(images, grid) -> (batch, rows, columns, points)`, such as
            `keras_pe.training.SamTeacher`, asked outside the compiled step. None for
            none, or where batches bring them.
        layer: that teaches, from 1. "auto" takes the one that is best in the first task
            on its validation samples, if it beats a guess; else the paper's share,
            41 of 50. A sweep of one's own data beats a rule made for one model, but
            only a task can say what "best" means: so there is none by default.
        tasks: what layers are compared on, by name, the first one decides. None for
            no sweeps.
        steps: of training.
        batch_size: images in a step.
        learning_rate: peak of a cosine after a short warm-up; None for 1e-3. Not with
            an `optimizer`, which has its own.
        optimizer: None for LAMB.
        mask_ratio: share of patches the student does not see, in blocks of two by two;
            0 for none. The paper's 0.75 is for 32 patches a side.
        feature_weight: factor of the loss against the teacher's tokens; 0 for none.
        correspondence_weight: factor of the loss against masks.
        sharpness: as of `keras_pe.losses.correspondence_loss`; "auto" is the paper's 20
            for masks and None for `masks="teacher"`.
        background_weight: of pairs that are no shape on both sides, against 1.
        flip: whether half of the images are mirrored, masks with them.
        prepare: from images as given, a batch, to floats as the encoder reads them, of
            the same size. None brings uint8 to [-1, 1] for PE's encoders.
        image_chunk_size: images whose activations are held at once; None for all.
        seed: of all that is drawn. Keras' global seed is set to it.
        progress: whether progress bars are shown.

    Returns:
        The aligned encoder, and an `AlignmentReport`. A task that can't be swept a
        second time is named there, and in the log; the encoder is returned all the
        same.

    Raises:
        TypeError: if there is no such kind of encoder or images.
        ValueError: if an argument makes no sense, or images and masks do not fit.
        NonFiniteError: if images hold NaN, or a step gives any.

    Source: Perception Encoder, section 5.2, for PE. That it helps other encoders is a
        claim of this function's report, not of the paper.

    Example:
        >>> from keras_pe import PEVisionEncoder
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=2, num_heads=2, intermediate_dim=32)
        >>> rng = np.random.default_rng(0)
        >>> images = rng.uniform(-1, 1, (24, 16, 16, 3)).astype("float32")
        >>> masks = np.zeros((8, 16, 16), "uint8")
        >>> masks[:, 8:] = 1    # one thing, in the lower half
        >>> labels = np.arange(16) % 2
        >>> aligned, report = align_spatial(encoder, images[:8], masks,
        ...     tasks={"kinds": Task("knn", (images[8:], labels))},
        ...     steps=2, batch_size=4, mask_ratio=0.5, progress=False)
        >>> type(aligned).__name__, list(report.gains)
        ('PESpatial', ['kinds'])
    """
    # What is wrong is said now: the sweeps may take hours.
    weights = {
        "feature_weight": feature_weight,
        "correspondence_weight": correspondence_weight,
        "background_weight": background_weight,
    }
    switches = {"flip": flip, "progress": progress}
    check_numbers(
        steps, batch_size, image_chunk_size, mask_ratio, weights, seed, switches
    )
    if optimizer is None and learning_rate is None:
        learning_rate = LEARNING_RATE
    optimizer = optimizer_of(optimizer, learning_rate, steps)
    source, tasks = given(encoder), checked_tasks(tasks)
    teacher_layer(layer, source.num_layers, {})
    by_function = callable(masks)
    data = AlignmentBatches(
        images,
        None if by_function or isinstance(masks, str) else masks,
        source.encoder,
        prepare,
        steps=steps,
        batch_size=batch_size,
        mask_ratio=mask_ratio,
        flip=flip,
        background=background_weight != 1.0,
        seed=seed,
    )
    whole, _ = data.first(), next(iter(data))
    mask_teacher = mask_teacher_of(masks, "mask_rows" in whole, background_weight)
    taught = feature_weight > 0 or mask_teacher == "teacher"
    check_losses(
        taught, mask_teacher, feature_weight, correspondence_weight, background_weight
    )
    batches: Iterable[Any] = data
    if by_function:
        side = source.encoder.patch_size
        batches = with_mask_rows(data, masks, side)
        (whole,) = with_mask_rows([whole], masks, side)
    if sharpness == "auto":
        sharpness = None if mask_teacher == "teacher" else SHARPNESS
    check_sharpness(sharpness)

    reading = source.prefix_tokens, prepare, progress
    for name, task in tasks.items():
        check_task(name, task, source.swept, *reading[:2])
    before = sweep_tasks(tasks, source.swept, *reading)
    number, reason = teacher_layer(layer, source.num_layers, before)
    keras.utils.set_random_seed(seed)
    subject = copies(source.encoder, number)
    trainer = SpatialAlignmentTrainer(
        subject.student,
        subject.teacher if taught else None,
        subject.teacher_layer,
        mask_teacher,
        feature_weight,
        correspondence_weight,
        sharpness,
        background_weight,
        image_chunk_size,
    )
    trainer.compile(optimizer)
    losses_before = _evaluated(
        trainer,
        whole,
        "before",
        "Look at the encoder's weights, and at the masks.",
    )
    losses = _fitted(trainer, batches, steps, progress)
    losses_after = _evaluated(trainer, whole, "after", ADVICE)
    for variable in subject.unreached:
        variable.trainable = True

    after, failed = sweep_again(tasks, before, subject.swept, *reading)
    over_last, over_best = gains(before, after)
    report = AlignmentReport(
        layer=number,
        layer_reason=reason if taught else "it taught nothing, masks alone did",
        num_layers=source.num_layers,
        before=before,
        after=after,
        failed=failed,
        gains=over_last,
        gains_over_best=over_best,
        whole_images={k: (losses_before[k], losses_after[k]) for k in losses},
        losses=losses,
        settings={
            "encoder": source.encoder.name,
            "masks": mask_teacher,
            "tasks": list(tasks),
            "steps": steps,
            "batch_size": batch_size,
            "image_size": list(whole["images"].shape[1:3]),
            "optimizer": optimizer.name,
            "learning_rate": learning_rate,
            "mask_ratio": mask_ratio,
            "feature_weight": feature_weight,
            "correspondence_weight": correspondence_weight,
            "sharpness": sharpness,
            "background_weight": background_weight,
            "flip": flip,
            "seed": seed,
        },
    )
    return subject.encoder, report


# === Training ===
class _Losses(keras.callbacks.Callback):
    """Keeps the losses of each step."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.rows.append({k: float(v) for k, v in (logs or {}).items() if k != "loss"})


def _fitted(
    trainer: SpatialAlignmentTrainer,
    batches: Iterable[dict[str, np.ndarray]],
    steps: int,
    progress: bool,
) -> dict[str, tuple[float, ...]]:
    """Trains; returns each step's losses by name."""
    found = _Losses()
    data: Any = ((batch,) for batch in batches)
    if keras.backend.backend() == "tensorflow":
        batches = RememberedErrors(batches)
        data = static_batches(batches)
    with as_it_was(batches):
        trainer.fit(
            data,
            steps_per_epoch=steps,
            shuffle=False,
            verbose="auto" if progress else 0,
            callbacks=[StopOnNonFinite(advice=ADVICE), found],
        )
    return {name: tuple(row[name] for row in found.rows) for name in found.rows[0]}


def _evaluated(
    trainer: SpatialAlignmentTrainer,
    whole: dict[str, np.ndarray],
    when: str,
    advice: str,
) -> dict[str, float]:
    """Returns the losses of images of which nothing is hidden.

    Raises:
        NonFiniteError: if one is not finite.
    """
    size = len(whole["images"])
    logs = trainer.evaluate(whole, batch_size=size, verbose=0, return_dict=True)
    losses = {name: float(value) for name, value in logs.items()}
    bad = [name for name, value in losses.items() if not math.isfinite(value)]
    if bad:
        # Of what the last update left there is no further step that would tell.
        raise NonFiniteError(
            f"{', '.join(bad)} of images of which nothing is hidden is not finite "
            f"{when} training. {advice}"
        )
    return losses
