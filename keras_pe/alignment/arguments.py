"""What can be wrong with the arguments of an alignment, and what is made of them."""

from collections.abc import Mapping
from typing import Any, Literal

import keras

from keras_pe.alignment.tasks import Task
from keras_pe.arrays import check_sizes, check_switches, is_number, is_whole
from keras_pe.training.optimizers.lamb import Lamb
from keras_pe.training.optimizers.schedules import WarmupCosine
from keras_pe.training.trainers.chunks import num_chunks
from keras_pe.training.trainers.spatial_trainer import check_weights

LEARNING_RATE = 1e-3
# LAMB's rate is relative to a matrix but absolute for LayerScale, which is small.
UNADAPTED_RATE = 0.1
LONGEST_WARMUP = 50  # steps
LARGEST_SEED = 2**32 - 1


def check_numbers(
    steps: Any,
    batch_size: Any,
    image_chunk_size: Any,
    mask_ratio: Any,
    weights: Mapping[str, Any],
    seed: Any,
    switches: Mapping[str, Any],
) -> None:
    """Says which number, or which switch, is none.

    Raises:
        ValueError: naming the argument.
    """
    check_sizes(steps=steps, batch_size=batch_size)
    if image_chunk_size is not None:
        check_sizes(image_chunk_size=image_chunk_size)
        num_chunks(batch_size, image_chunk_size)
    if not is_number(mask_ratio) or not 0.0 <= mask_ratio < 1.0:
        raise ValueError(
            f"mask_ratio must be at least 0 and below 1, got {mask_ratio!r}."
        )
    check_weights(**weights)
    if not is_whole(seed) or not 0 <= seed <= LARGEST_SEED:
        raise ValueError(
            f"seed must be a whole number of 0 to {LARGEST_SEED}, got {seed!r}."
        )
    check_switches(**switches)


def optimizer_of(optimizer: Any, learning_rate: Any, steps: int) -> keras.Optimizer:
    """Returns the optimizer that was given, or LAMB with a cosine after a warm-up.

    Raises:
        TypeError: if it is no optimizer.
        ValueError: if it has been used, or there is a learning rate too, or one that
            is no number above 0.
    """
    if optimizer is None:
        rate = LEARNING_RATE if learning_rate is None else learning_rate
        if not is_number(rate) or rate <= 0:
            raise ValueError(f"learning_rate must be a number above 0, got {rate!r}.")
        schedule = WarmupCosine(rate, min(steps // 10, LONGEST_WARMUP), steps)
        return Lamb(schedule, unadapted_rate=UNADAPTED_RATE)
    if not isinstance(optimizer, keras.Optimizer):
        raise TypeError(
            f"optimizer must be a Keras optimizer, such as keras.optimizers.AdamW(), "
            f"or None for LAMB, got {optimizer!r}."
        )
    if learning_rate is not None:
        raise ValueError(
            f"The optimizer has a learning rate of its own, got learning_rate="
            f"{learning_rate} too. Give it to the optimizer."
        )
    if optimizer.built:
        raise ValueError(
            f"This {type(optimizer).__name__} has been used for other weights. Give a "
            f"new one: type(optimizer).from_config(optimizer.get_config())."
        )
    return optimizer


def checked_tasks(tasks: Any) -> dict[str, Task]:
    """Returns tasks by name.

    Raises:
        TypeError: if they are none.
    """
    such_as = 'a keras_pe.alignment.Task, such as Task("knn", (images, labels)).'
    if tasks is not None and not isinstance(tasks, Mapping):
        raise TypeError(
            f"Tasks are given by their names, got a {type(tasks).__name__}; expected a "
            f"dictionary, each value {such_as}"
        )
    for name, task in (tasks or {}).items():
        if not isinstance(task, Task):
            raise TypeError(
                f"Task {name!r} is a {type(task).__name__}, expected {such_as}"
            )
    return dict(tasks or {})


def mask_teacher_of(
    masks: Any, in_data: bool, background_weight: float
) -> Literal["batch", "teacher"] | None:
    """Returns where what masks say comes from, by the trainer's names.

    Raises:
        ValueError: if it is no such place, or two, or lacks what is needed.
    """
    if isinstance(masks, str) and masks != "teacher":
        raise ValueError(
            f'masks must be an array, "teacher", a function or None, got {masks!r}.'
        )
    asked = callable(masks) or isinstance(masks, str)
    if asked and in_data:
        raise ValueError(
            "Batches bring masks, and others are asked for by the argument masks. Give "
            "batches of images alone, or masks=None."
        )
    if background_weight != 1.0 and not in_data:
        raise ValueError(
            f"background_weight={background_weight} needs masks in an array, or in the "
            f"batches: only there it is known what is no shape."
        )
    if isinstance(masks, str):
        return "teacher"
    return "batch" if callable(masks) or in_data else None
