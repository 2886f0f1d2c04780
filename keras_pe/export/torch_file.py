"""A tower as `.pt2`, PyTorch's exported program; runs on the PyTorch backend."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from keras_pe.export.layer_values import outputs_with_layers
from keras_pe.models.tower import Tower


def write(
    tower: Tower, path: Path, example: np.ndarray, layers: tuple[str, ...] = ()
) -> None:
    """Writes a file that takes any batch.

    Args:
        tower: the encoder.
        path: of the `.pt2` file.
        example: inputs, two or more: PyTorch takes a batch of one for a constant.
        layers: whose outputs the program returns after the tower's.
    """
    import torch

    class Exported(torch.nn.Module):  # one positional argument and a plain result
        # The tower is no part of it: its weights, which a trace takes up as constants,
        # would be in the file twice.
        def forward(self, inputs: Any) -> Any:
            outputs = outputs_with_layers(tower, inputs, layers)
            return outputs if layers else outputs[0]

    batch = torch.export.Dim("batch", min=1)
    with torch.no_grad(), gathers_any_batch():
        program = torch.export.export(
            Exported().eval(),
            (torch.from_numpy(example),),
            dynamic_shapes=({0: batch},),
        )
    torch.export.save(program, path)


@contextlib.contextmanager
def gathers_any_batch() -> Iterator[None]:
    """Replaces `torch.take_along_dim`, which fixes the batch of a traced program.

    `keras.ops.take_along_axis` is made of it (PyTorch 2.13): a text tower would take
    the batch of the example alone.
    """
    import torch

    before = torch.take_along_dim

    def take(x: Any, indices: Any, dim: int) -> Any:
        sizes = [-1 if place == dim else size for place, size in enumerate(x.shape)]
        sizes[0] = -1 if dim != 0 else sizes[0]
        return torch.gather(x, dim, indices.expand(sizes))

    torch.take_along_dim = take  # type: ignore[assignment]
    try:
        yield
    finally:
        torch.take_along_dim = before
