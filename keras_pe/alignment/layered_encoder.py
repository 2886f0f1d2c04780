"""Any Keras vision transformer that gives its layers, read as PE's encoders are."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_pe.models.compiled import no_gradient
from keras_pe.models.tower import resolve_layers
from keras_pe.probing.layer_outputs import functional_outputs, intermediate_model


class LayeredEncoder(keras.Model):
    """Gives the tokens of any layer of a functional model, as a `PEVisionEncoder` does.

    The model's layers are used, not copied. Only what the last of them needs is a part
    of this: a final norm or a head behind it has no weights here.

    A model of another library has no place where a mask embedding could go in: hidden
    patches are painted over, with the mean colour of their image plus a colour that is
    learned. Other patches see them through attention, as they do in PE.

    Args:
        model: a functional model of images of a fixed size, channels last:
            KerasHub's DINOv2 and DINOv3 backbones, its CLIP and SigLIP vision encoders,
            any model whose blocks are layers of their own with numbered names, or one
            that returns its layers as a list or a dictionary.
        layers: names of its layers that are the blocks, in order; None finds them.
        patch_size: side of a patch, pixels; None asks the model.

    Raises:
        TypeError: if it is no functional model.
        ValueError: if its layers can't be told, or they are not of one width and grid.

    Example:
        >>> x = images = keras.Input((16, 16, 3))
        >>> x = keras.layers.Reshape((4, 8))(keras.layers.Conv2D(8, 8, 8)(x))
        >>> for number in range(3):
        ...     x = keras.layers.Dense(8, name=f"block_{number}")(x)
        >>> encoder = LayeredEncoder(keras.Model(images, x), patch_size=8)
        >>> encoder.num_layers, encoder.grid((None, 16, 16, 3)), encoder.prefix_tokens
        (3, (2, 2), 0)
    """

    def __init__(
        self,
        model: keras.Model,
        layers: Sequence[str] | None = None,
        patch_size: int | None = None,
    ) -> None:
        if getattr(model, "inputs", None) is None or isinstance(
            model, keras.Sequential
        ):
            raise TypeError(
                f"Other encoders than PE's must be functional Keras models, got "
                f"{type(model).__name__}. Build it as keras.Model(images, layers)."
            )
        super().__init__(name=model.name, dtype=model.dtype_policy, autocast=False)
        # In a function, or all of the model's weights would count as this one's.
        self._made_of = lambda: (model, layers)
        self.image_shape = _checked_input(model)
        outputs = _outputs(model, layers)
        self.num_layers = len(outputs)
        self.hidden_dim = int(outputs[-1].shape[-1])
        side = getattr(model, "patch_size", None) if patch_size is None else patch_size
        self.patch_size = _patch_size(self.image_shape, outputs[-1], side, model)
        self.own_grid = (
            self.image_shape[0] // self.patch_size,
            self.image_shape[1] // self.patch_size,
        )
        self.mask_dim = 3  # a colour
        self.reader = keras.Model(model.inputs[0], outputs)
        with no_gradient():  # KerasHub's SigLIP says that it gives a token more
            shape = self.reader(ops.zeros((1, *self.image_shape)))[-1].shape
        self.prefix_tokens = _prefix_tokens(tuple(shape), self.own_grid, model)
        self.built = True

    def copied(self) -> tuple[keras.Model, "LayeredEncoder"]:
        """Returns a copy of the model, all of it trainable, and a reader of its layers.

        Raises:
            ValueError: if its configuration does not make a model with its weights.
        """
        model, layers = self._made_of()
        if type(model).__module__.startswith("keras."):
            copy = keras.models.clone_model(model)
        else:  # which `clone_model` would make a plain model of
            copy = type(model).from_config(model.get_config())
        shapes = [[tuple(w.shape) for w in m.weights] for m in (model, copy)]
        if shapes[0] != shapes[1]:
            raise ValueError(
                f"A copy of {model.name}, made of its configuration, has other weights "
                f"({len(shapes[1])}, not {len(shapes[0])}). Align it before it gets "
                f"LoRA or is quantised."
            )
        for theirs, ours in zip(copy.weights, model.weights, strict=True):
            # A copy of the values: JAX would have one buffer for both, and donate it.
            theirs.assign(np.array(ops.convert_to_numpy(ours)))
        # One by one: on TensorFlow a model that is trainable already is left as it is.
        for layer in copy._flatten_layers():
            layer.trainable = True
        return copy, LayeredEncoder(copy, layers, self.patch_size)

    def towers(self) -> dict[str, keras.Model]:
        """Returns itself: the one tower that a trainer looks at."""
        return {"": self}

    def draw_drop_path(self, batch: Any) -> None:
        """Returns None: stochastic depth, where there is any, is the model's own."""

    def grid(self, images_shape: Any) -> tuple[int, int]:
        """Returns (rows, columns) of patches.

        Raises:
            ValueError: if images have another size than the model reads.
        """
        if tuple(images_shape[1:]) != self.image_shape:
            raise ValueError(
                f"{self.name} reads images {self.image_shape}, got "
                f"{tuple(images_shape[1:])}. Resize them, and masks with them, or "
                f"build the model for their size."
            )
        return self.own_grid

    def call(self, images: Any, training: bool | None = None) -> Any:
        """Returns the tokens of all layers, a list of `(batch, tokens, hidden_dim)`."""
        layers = range(1, self.num_layers + 1)
        return self.layer_tokens(images, layers, training=training)

    def layer_tokens(
        self,
        images: Any,  # (batch, height, width, 3), as the model reads them
        layers: Sequence[int],
        *,
        masked_patches: Any = None,  # (batch, patches)
        mask_embedding: Any = None,  # (3,)
        drop_path_factors: Any = None,
        training: bool | None = None,
    ) -> list[Any]:
        """Returns the tokens of each layer asked for, `(batch, tokens, hidden_dim)`.

        Args:
            images: `(batch, height, width, 3)`, as the model reads them.
            layers: k is the output of block k, -1 of the last; there is no layer 0.
            masked_patches: `(batch, patches)`, true for those that are painted over.
            mask_embedding: `(3,)`, added to the mean colour of an image.
            drop_path_factors: none; as of `VisionForward.layer_tokens`.
            training: whether the model's own dropout is active.

        Raises:
            ValueError: if there is no such layer, or images or masks have another size
                than the model's.
        """
        numbers = resolve_layers(tuple(layers), self.num_layers)
        if 0 in numbers:
            raise ValueError(
                f"{self.name} gives what its blocks return, 1 to {self.num_layers}; "
                f"what goes into the first one, layer 0, it does not."
            )
        rows, columns = self.grid(images.shape)
        if masked_patches is not None:
            images = self._painted(images, masked_patches, mask_embedding)
        found = self.reader(images, training=training)
        shape = (-1, rows * columns, self.hidden_dim)
        tokens = [ops.reshape(x, shape) if len(x.shape) == 4 else x for x in found]
        return [tokens[number - 1] for number in numbers]

    def _painted(self, images: Any, masks: Any, colour: Any) -> Any:
        (rows, columns), side = self.own_grid, self.patch_size
        known = (images.shape[0], rows * columns)
        pairs = zip(masks.shape, known, strict=False)
        if len(masks.shape) != 2 or any(a != b for a, b in pairs if None not in (a, b)):
            raise ValueError(
                f"masked_patches must have a row for each image and a column for each "
                f"patch, {known}, got {tuple(masks.shape)}."
            )
        colour = ops.mean(images, axis=(1, 2), keepdims=True) + ops.cast(
            colour, images.dtype
        )  # (batch, 1, 1, 3)
        hidden = ops.reshape(ops.cast(masks, images.dtype), (-1, rows, columns, 1))
        hidden = ops.repeat(ops.repeat(hidden, side, axis=1), side, axis=2)
        return images + hidden * (colour - images)


# === The model's layers ===
def _checked_input(model: keras.Model) -> tuple[int, int, int]:
    shapes = [tuple(x.shape) for x in model.inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:]:
        raise ValueError(
            f"{model.name} must read images alone, of one known size, got inputs "
            f"{shapes}. Of KerasHub's dual encoders give backbone.vision_encoder."
        )
    if shapes[0][3] != 3:
        raise ValueError(
            f"{model.name} must read images (height, width, 3), got {shapes[0][1:]}. "
            f'Build it with data_format="channels_last".'
        )
    return shapes[0][1:]


def _outputs(model: keras.Model, names: Sequence[str] | None) -> list[Any]:
    """Returns the symbolic outputs of the blocks, first one first."""
    pyramid = getattr(model, "pyramid_outputs", None)
    if names is not None:
        by_name = intermediate_model(model, names).output
        outputs = [by_name[name] for name in names]
    elif pyramid:  # of KerasHub; "stem" is what goes into the first block
        outputs = [x for name, x in pyramid.items() if name != "stem"]
    elif isinstance(model.output, list | tuple | dict):
        outputs = list((functional_outputs(model) or {}).values())
    else:
        outputs = _numbered_blocks(model)
    shapes = {tuple(x.shape) for x in outputs}
    shape = next(iter(shapes), ())
    if len(shapes) != 1 or len(shape) not in (3, 4) or None in shape[1:]:
        raise ValueError(
            f"The layers of {model.name} must all give tokens (batch, tokens, "
            f"channels), or maps, of one known shape, got {sorted(shapes, key=str)}. "
            f"Alignment is for plain vision transformers; name its blocks by "
            f"LayeredEncoder(model, layers=[...]) if others were found."
        )
    return outputs


def _numbered_blocks(model: keras.Model) -> list[Any]:
    """Returns the outputs of layers that are alike but for a number in their names."""
    groups, grids = defaultdict(list), set()
    for layer in model.layers:
        numbered = re.fullmatch(r"(.*?)(\d+)(\D*)", layer.name)
        shape = tuple(getattr(layer.output, "shape", ()))
        if len(shape) == 4 and shape[1:3] != tuple(model.inputs[0].shape[1:3]):
            grids.add(shape[1:3])
        if numbered and len(shape) in (3, 4):
            kind = (type(layer), numbered[1], numbered[3], shape)
            groups[kind].append((int(numbered[2]), layer.output))
    if len(grids) > 1:  # a convolutional network has numbered layers too
        raise ValueError(
            f"{model.name} has maps of several sizes, {sorted(grids, key=str)}; a "
            f"plain vision transformer has one grid of patches. If it is one, name "
            f"its blocks: LayeredEncoder(model, layers=[...])."
        )
    most = max(map(len, groups.values()), default=0)
    largest = [group for group in groups.values() if len(group) == most]
    if most < 2 or len(largest) > 1:
        raise ValueError(
            f"The blocks of {model.name} can't be told from its other layers: "
            f"{', '.join(layer.name for layer in model.layers)}. Name them, by "
            f"LayeredEncoder(model, layers=[...]); if they lie inside one of these, "
            f"give a model that returns what each of them gives."
        )
    return [output for _, output in sorted(largest[0], key=lambda pair: pair[0])]


def _patch_size(
    image: tuple[int, int, int], output: Any, size: Any, model: keras.Model
) -> int:
    if len(output.shape) == 4:
        size = image[0] // output.shape[1]
    if isinstance(size, list | tuple):
        size = size[0] if len(set(size)) == 1 else None
    if not size or image[0] % size or image[1] % size:
        raise ValueError(
            f"The patches of {model.name} must be squares that fill images of "
            f"{image[0]}x{image[1]} pixels, got patch_size={size}. Give it by "
            f"LayeredEncoder(model, patch_size=...)."
        )
    return int(size)


def _prefix_tokens(
    shape: tuple[int, ...], grid: tuple[int, int], model: keras.Model
) -> int:
    """Returns how many tokens there are that belong to no patch; they come first."""
    patches = grid[0] * grid[1]
    tokens = shape[1] if len(shape) == 3 else patches
    if tokens < patches or (len(shape) == 4 and shape[1:3] != grid):
        raise ValueError(
            f"{model.name} gives {shape} for {grid[0]}x{grid[1]} patches. Give the "
            f"side of its patches, LayeredEncoder(model, patch_size=...)."
        )
    return int(tokens - patches)
