"""Images of artwork with exact masks, as what spatial alignment is trained on.

Scenes are composed as they are needed, from the drawings of the probing experiments'
training split; people in parts come from its training images. Batch i depends on the
seed and on i alone.
"""

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np

from keras_pe.models.aligned import PESpatial
from keras_pe.training import background_share, masked_patches, shape_rows
from keras_pe.training.devices.distribution import host_position, local_rows
from keras_pe.training.resolution import PlannedStage
from keras_pe.training.run.spatial_config import SpatialConfig
from keras_pe.training.run.training_run import Evaluate, MakeBatches
from projects.emoji.drawings_data import Batches, DrawingsData
from projects.emoji.probing.body_parts import load_parts
from projects.emoji.probing.scene_images import Picker, compose_scene
from projects.emoji.probing.scenes import load_sources
from projects.emoji.probing.segmentation_set import Bytes, SegmentationSet

MOST_SHAPES = 24  # of an image; further ones count as background
BRIGHTNESS, SATURATION = 0.32, 0.32  # as in table 21


@dataclasses.dataclass(frozen=True, kw_only=True)
class ArtworkConfig(SpatialConfig):
    """An alignment on artwork.

    Attributes:
        parts_share: share of images that show a person in parts; the others are scenes.
        mask_kind: "cover" or "distance": see `keras_pe.training.shape_rows`.
        mask_source: "exact", or "another": masks of another image of the batch, the
            control that must not help.
    """

    parts_share: float = 0.4
    mask_kind: Literal["cover", "distance"] = "cover"
    mask_source: Literal["exact", "another"] = "exact"


class ArtworkData:
    """Scenes and people in parts.

    Args:
        drawings: output of `projects.emoji.data.prepare`.
        probing: output of `projects.emoji.probing.body_parts`.
    """

    def __init__(self, drawings: Path, probing: Path) -> None:
        self.drawings, self.probing = drawings, probing

    def describe(self) -> dict[str, Any]:
        """Returns what a run's configuration says of them, wherever they lie."""
        return DrawingsData(self.drawings).describe()

    def batches(self, config: SpatialConfig, patch_size: int) -> MakeBatches:
        """Returns what makes the batches of a stage: from (stage, first, count)."""
        assert isinstance(config, ArtworkConfig)
        drawings, textures, _ = load_sources(self.drawings, "train")
        images = ArtworkImages(
            Picker(drawings), textures, load_parts(self.probing, "train"), config
        )

        def make(stage: PlannedStage, first: int, count: int) -> Iterable[Any]:
            side = stage.image_size
            position = host_position()
            return Batches(
                lambda i: local_rows(images.batch(i, side, patch_size), *position),
                first,
                count,
            )

        return make

    def mask_teachers(self, config: SpatialConfig) -> tuple[keras.Model, ...]:
        """Returns none: what belongs together is known."""
        return ()

    def scores(self, config: SpatialConfig, model: PESpatial) -> Evaluate | None:
        """Returns None: layers are compared after a run, see `experiment.py`."""
        return None


class ArtworkImages:
    """Draws images with the numbers of their shapes, and batches of them.

    Args:
        picker: of the drawings for scenes.
        textures: for their backgrounds.
        people: images in parts, at least as large as those of a batch.
        config: the run.
    """

    def __init__(
        self,
        picker: Picker,
        textures: Any,
        people: SegmentationSet,
        config: ArtworkConfig,
    ) -> None:
        self.picker, self.textures, self.people = picker, textures, people
        self.config = config

    def batch(self, number: int, side: int, patch_size: int) -> dict[str, np.ndarray]:
        """Returns batch `number`, as `SpatialAlignmentTrainer` reads it."""
        config, grid = self.config, (side // patch_size,) * 2
        images, shapes = [], []
        for row in range(config.batch_size):
            image, numbers = self.image(side, self._rng(number, row))
            images.append(image)
            shapes.append(numbers)
        if config.mask_source == "another":
            shapes = shapes[1:] + shapes[:1]
        batch = {"images": np.stack(images)}
        if config.mask_teacher == "masks":
            batch["mask_rows"] = np.stack(
                [shape_rows(s, grid, MOST_SHAPES, config.mask_kind) for s in shapes]
            )
            if config.background_weight != 1.0:
                batch["background"] = np.stack(
                    [background_share(s, grid) for s in shapes]
                )
        hidden = np.zeros((config.batch_size, grid[0] * grid[1]), bool)
        if config.mask_ratio:
            rng = self._rng(number, config.batch_size)
            hidden = masked_patches(
                config.batch_size, grid, config.mask_ratio, rng, config.mask_block
            )
        batch["masked_patches"] = hidden
        return batch

    def image(
        self, side: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image in [-1, 1] and which shape, from 1, each pixel shows."""
        if rng.random() < self.config.parts_share:
            pixels, numbers = self._person(side, rng)
        else:
            scene = compose_scene(self.picker, side, self.textures, rng)
            pixels, numbers = scene.image, scene.instances
        if self.config.augment:
            if rng.random() < 0.5:
                pixels, numbers = pixels[:, ::-1], numbers[:, ::-1]
            return _jittered(pixels, rng), _counted(numbers)
        return pixels.astype("float32") / 127.5 - 1.0, _counted(numbers)

    def _person(self, side: int, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
        place = int(rng.integers(len(self.people)))
        whole = self.people.images[place]
        top, left = rng.integers(whole.shape[0] - side + 1, size=2)
        window = slice(top, top + side), slice(left, left + side)
        return whole[window], self.people.instances[place][window]

    def _rng(self, number: int, row: int) -> np.random.Generator:
        return np.random.default_rng([self.config.seed, number, row])


def _jittered(pixels: Bytes, rng: np.random.Generator) -> np.ndarray:
    """Returns an image in [-1, 1] of another brightness and saturation."""
    image = pixels.astype("float32") / 255.0 * (1 + BRIGHTNESS * rng.uniform(-1, 1))
    grey = image @ np.array([0.299, 0.587, 0.114], "float32")
    factor = 1 + SATURATION * rng.uniform(-1, 1)
    image = grey[..., None] + factor * (image - grey[..., None])
    return (np.clip(image, 0.0, 1.0) * 2.0 - 1.0).astype("float32")


def _counted(numbers: Bytes) -> np.ndarray:
    """Returns the shapes that are seen numbered from 1, without gaps."""
    seen, places = np.unique(numbers, return_inverse=True)
    order = np.cumsum(seen > 0) * (seen > 0)
    order[order > MOST_SHAPES] = 0
    return order[places.reshape(numbers.shape)]
