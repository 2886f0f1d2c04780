"""Presets whose weights a wheel packs tighter, and that are the same numbers.

Run:      python -m projects.emoji.byte_planes \
              keras_pe/presets/pe_spatial_emoji_patch8_64
Expect:   the same preset, whose HDF5 file has the bytes of each weight by plane: first
          the lowest of all its numbers, then the highest. A line says how many bytes
          of a wheel that saves.

Zip looks for bytes that are frequent. Of float16's two the upper one, sign and exponent
with a little of the fraction, is one of few values; the lower one is nearly noise. Side
by side they hide each other. HDF5 has this as its byte shuffle; no value changes, no
byte is compressed, and whatever reads HDF5 reads it.
"""

import argparse
import os
import shutil
import zlib
from pathlib import Path
from typing import Any

from keras_pe.files import write_directory
from keras_pe.preprocessing.prompts import known_classes
from keras_pe.presets.checksums import (
    METADATA,
    SELF_CHECKSUM,
    read_metadata,
    verify_file,
    write_metadata,
)
from keras_pe.presets.class_vectors import (
    CLASS_VECTORS,
    ClassVectors,
    read_class_vectors,
    write_class_vectors,
)
from keras_pe.presets.preset_weights import SINGLE_FILE


def write_by_planes(source: Path, target: Path) -> None:
    """Writes a file of weights anew, the bytes of each by plane.

    Args:
        source: HDF5, as Keras or this function writes it.
        target: likewise; must not exist.

    Example:
        >>> write_by_planes(Path("a.h5"), Path("b.h5"))             # doctest: +SKIP
    """
    import h5py

    with h5py.File(source, "r") as old, _new_file(target) as new:
        _copy(old, new)


def _new_file(path: Path) -> Any:
    """Returns a new HDF5 file that is the same whenever it is written.

    It has the format of HDF5 1.10, of 2016, where the place of a single chunk takes no
    index of its own.
    """
    import h5py

    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_libver_bounds(h5py.h5f.LIBVER_V110, h5py.h5f.LIBVER_V110)
    made = _timeless(h5py.h5p.FILE_CREATE)
    return h5py.File(
        h5py.h5f.create(os.fsencode(path), h5py.h5f.ACC_EXCL, made, access)
    )


def _timeless(kind: Any) -> Any:
    """Returns how something is made that does not say when it was."""
    import h5py

    made = h5py.h5p.create(kind)
    made.set_obj_track_times(False)
    return made


def _copy(old: Any, new: Any) -> None:
    """Copies what a group holds, and what is said of it."""
    import h5py

    new.attrs.update(old.attrs)
    for name, item in old.items():
        if isinstance(item, h5py.Group):
            made = _timeless(h5py.h5p.GROUP_CREATE)
            group = h5py.Group(h5py.h5g.create(new.id, name.encode(), gcpl=made))
            _copy(item, group)
            continue
        values = item[()]
        # A scalar has no bytes to sort, and can't be a chunk.
        by_planes = {"chunks": values.shape, "shuffle": True} if values.shape else {}
        dataset = new.create_dataset(name, data=values, **by_planes)
        dataset.attrs.update(item.attrs)


def store_by_planes(preset: Path) -> int:
    """Writes a preset anew, its weights by plane, whole or not at all.

    Vectors of classes are kept, for they belong to the same numbers. All checksums are
    made anew.

    Args:
        preset: its folder, with the weights in one file.

    Returns:
        By how many bytes the weights pack tighter.

    Raises:
        CheckpointError: if a file of the preset is damaged.
    """
    metadata = read_metadata(preset)
    files = metadata.pop("files")
    metadata.pop(SELF_CHECKSUM)
    classes = _classes(preset, {**metadata, "files": files})
    with write_directory(preset) as aside:
        for name in files:
            verify_file(preset, name, {"files": files})
            if name == SINGLE_FILE:
                write_by_planes(preset / name, aside / name)
            elif name != CLASS_VECTORS:
                shutil.copy2(preset / name, aside / name)
        if classes is not None:
            write_class_vectors(aside, classes)
        usual = (preset / METADATA).stat().st_mode
        for path in aside.iterdir():  # safetensors makes its files private
            path.chmod(usual)
        write_metadata(aside, metadata)
        return packed_bytes(preset / SINGLE_FILE) - packed_bytes(aside / SINGLE_FILE)


def _classes(preset: Path, metadata: dict[str, Any]) -> ClassVectors | None:
    """Returns the vectors of classes of a preset, None without or of other weights."""
    from safetensors.numpy import load_file

    known = known_classes(metadata)
    if known is None or read_class_vectors(preset, metadata, *known) is None:
        return None
    (stored,) = load_file(preset / CLASS_VECTORS).values()  # as they are, not scaled
    return ClassVectors(stored, *known)


def packed_bytes(path: Path) -> int:
    """Returns how many bytes a wheel, which is a zip, needs for a file."""
    return len(zlib.compress(path.read_bytes()))


def main() -> None:
    """Stores presets by planes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("presets", nargs="+", type=Path)
    for preset in parser.parse_args().presets:
        print(f"{preset}: {store_by_planes(preset):,} bytes of a wheel less")


if __name__ == "__main__":
    main()
