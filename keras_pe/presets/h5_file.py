"""An HDF5 file of weights, read as data: names and places first, then the numbers.

HDF5 can do more than hold plain numbers: lead to other files, map datasets onto others,
unpack. Here names, shapes and places are read, everything else is refused, and the
numbers are then read from where they lie.

One other way of storing them is taken: the bytes of a dataset by plane, first the
lowest byte of all its numbers, then the next (HDF5's byte shuffle, in one chunk that
holds the whole dataset). They are as many, and zip packs them tighter: so the presets
in the package are stored.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from keras_pe.presets.report import CheckpointError
from keras_pe.presets.tensor_reader import (
    MAX_TENSORS,
    OpenFile,
    Place,
    check_count,
)

MAX_DEPTH = 16  # groups inside groups; Keras' files have seven
DTYPES = {"<f8": "F64", "<f4": "F32", "<f2": "F16"}


class H5File(OpenFile):
    """An open HDF5 file with weights, by the names that Keras gave them."""

    def __init__(self, path: Path) -> None:
        import h5py

        super().__init__(path)
        try:
            with h5py.File(path, "r", locking=False) as file:
                places = dict(self._places(file, "", 0))
        except CheckpointError:
            raise
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise CheckpointError(
                f"{path.name} is no sound HDF5 file ({str(error)[:200]}). It may be "
                f"cut short or damaged: fetch it again, or save the preset again."
            ) from error
        self.check_unchanged()
        check_count(path, len(places))
        self.set_places(places)

    def _places(
        self, group: Any, prefix: str, depth: int
    ) -> Iterator[tuple[str, Place]]:
        """Yields the datasets of a group and of the groups in it."""
        import h5py

        if depth > MAX_DEPTH or len(group) > MAX_TENSORS:
            raise ValueError(
                f"{prefix or '/'} is nested deeper or wider than any model"
            )
        for key in group:
            name = f"{prefix}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise CheckpointError(
                    f"{name} of {self.path.name} is a link to another place or file, "
                    f"expected numbers. Nothing was read. Save the preset again."
                )
            item = group[key]
            if isinstance(item, h5py.Group):
                yield from self._places(item, f"{name}/", depth + 1)
            elif isinstance(item, h5py.Dataset):
                yield name, self._place(name, item)
            else:
                raise ValueError(f"{name} is neither a group nor a dataset")

    def _place(self, name: str, dataset: Any) -> Place:
        problem = None
        if dataset.external or dataset.is_virtual:
            problem = "lies in another file"
        elif dataset.shape is None:
            problem = "is empty"
        kind = dataset.dtype.str
        # Keras writes bfloat16, which HDF5 does not know, as two bytes and a note.
        if kind == "|V2" and dataset.attrs.get("dtype") == "bfloat16":
            dtype = "BF16"
        else:
            dtype = DTYPES.get(kind, kind)
        start: Any = None
        plane = None
        if problem is None and dataset.chunks is not None:
            start = _start_of_planes(dataset)
            plane = dataset.size
            if start is None or dtype not in DTYPES.values():
                problem = "is stored in pieces or compressed"
        elif problem is None:
            start = dataset.id.get_offset()
            if start is None:
                problem = "has no place in the file"
        if problem is not None:
            raise CheckpointError(
                f"{name} of {self.path.name} {problem}, expected plain numbers as "
                f"save_to_preset writes them. Save the preset again."
            )
        if start + dataset.nbytes > self.size:
            raise ValueError(f"{name} ends behind the end of the file")
        shape = tuple(int(n) for n in dataset.shape)
        return Place(start, shape, dtype, plane=plane)


def _start_of_planes(dataset: Any) -> int | None:
    """Returns where a dataset lies whose bytes are stored by plane.

    Returns None for any that is stored in another way: in more or other pieces than
    one of its own shape, or by any filter but the byte shuffle.
    """
    import h5py

    if dataset.chunks != dataset.shape or dataset.maxshape != dataset.shape:
        return None
    plan = dataset.id.get_create_plist()
    if plan.get_nfilters() != 1:
        return None
    code, _, values, _ = plan.get_filter(0)
    item_size = dataset.dtype.itemsize
    if code != h5py.h5z.FILTER_SHUFFLE or tuple(values) != (item_size,):
        return None
    # In front of a user block places are counted from another byte.
    if dataset.file.userblock_size or dataset.id.get_num_chunks() != 1:
        return None
    chunk = dataset.id.get_chunk_info(0)
    whole = (
        not any(chunk.chunk_offset)
        and chunk.filter_mask == 0  # else the filter was passed over
        and chunk.size == dataset.nbytes
    )
    return int(chunk.byte_offset) if whole and chunk.byte_offset is not None else None
