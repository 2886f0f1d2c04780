"""What training tools put around the names of weights, and how it comes off."""

from collections.abc import Collection

from keras_pe.presets.report import CheckpointError

# torch.compile, FSDP and activation checkpointing wrap any module of a model.
ANYWHERE = ("_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.")
# DataParallel, Lightning and the like wrap the whole of it.
IN_FRONT = ("module.", "model.", "backbone.", "encoder.", "network.", "net.")


def take_off(names: Collection[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Returns the names without wrappers.

    A prefix in front comes off only if all names have it.

    Args:
        names: the names in a file.

    Returns:
        Names in the file by the names without wrappers, and the wrappers.

    Raises:
        CheckpointError: if two names become one.

    Example:
        >>> take_off(["module._orig_mod.proj", "module.norm.weight"])
        ({'proj': 'module._orig_mod.proj', 'norm.weight': 'module.norm.weight'}, \
('_orig_mod.', 'module.'))
    """
    bare = {name: name for name in names}  # name in the file to name without
    found: list[str] = []
    for wrapper in ANYWHERE:
        if any(f".{wrapper}" in f".{name}" for name in names):
            found.append(wrapper)
            bare = {
                theirs: f".{ours}".replace(f".{wrapper}", ".")[1:]
                for theirs, ours in bare.items()
            }
    peeled = True
    while peeled and bare:
        peeled = False
        for prefix in IN_FRONT:
            if all(ours.startswith(prefix) for ours in bare.values()):
                found.append(prefix)
                bare = {k: ours.removeprefix(prefix) for k, ours in bare.items()}
                peeled = True
    names_in_file: dict[str, str] = {}
    for theirs, ours in bare.items():
        if ours in names_in_file:
            raise CheckpointError(
                f"{theirs} and {names_in_file[ours]} are one name without "
                f"{', '.join(found)}: the file holds two models. Save one of them."
            )
        names_in_file[ours] = theirs
    return names_in_file, tuple(found)
