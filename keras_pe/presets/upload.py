"""Puts a preset directory on the Hugging Face Hub, after a look at all of it."""

import os
from pathlib import Path

from keras_pe.presets.checksums import METADATA, read_metadata, verify_file
from keras_pe.presets.download import endpoint, is_offline
from keras_pe.presets.hub import CONFIG, HUB
from keras_pe.presets.hub_errors import HubError, hub_errors
from keras_pe.presets.model_card import README, model_card
from keras_pe.presets.report import CheckpointError


def upload_preset(
    uri: str,
    directory: str | os.PathLike[str],
    *,
    private: bool = False,
    message: str | None = None,
    token: str | None = None,
    dry_run: bool = False,
) -> str:
    """Uploads a preset that `save_to_preset` wrote, and its model card.

    The repository is made if it is missing. Files are compared with their checksums
    first, and no file is uploaded that does not belong to the preset.

    The card is `README.md` in the directory, or a card of its name beside it. Without
    either a short one is made, that says what the model is, how it is loaded, and that
    its author has said no more.

    Args:
        uri: `hf://owner/name`, or `hf://owner/name@branch` for a branch that is there.
        directory: the preset.
        private: whether a repository that is made is private.
        message: of the commit.
        token: of the Hub; None takes the one of `hf auth login` or HF_TOKEN.
        dry_run: whether the files are looked at, and the Hub is asked nothing.

    Returns:
        The address of the commit; of a dry run that of the repository.

    Raises:
        CheckpointError: if the directory is no preset, a file is damaged or does not
            belong to it; nothing is uploaded.
        HubError: if the Hub refuses it, or can't be asked.

    Example:
        >>> from keras_pe import PEImageConverter, PEVisionEncoder
        >>> encoder = PEVisionEncoder(image_size=16, patch_size=8, hidden_dim=16,
        ...     num_layers=1, num_heads=2, intermediate_dim=32)
        >>> encoder.save_to_preset("small", image_converter=PEImageConverter(16))
        >>> upload_preset("hf://me/small", "small", dry_run=True)    # without: for good
        'https://huggingface.co/me/small'
    """
    match = HUB.fullmatch(uri) if isinstance(uri, str) else None
    if match is None:
        hint = ""
        if isinstance(uri, str) and uri.startswith("kaggle://"):
            hint = " To Kaggle: kagglehub.model_upload(handle, directory)."
        raise CheckpointError(
            f"uri={uri!r}: expected hf://owner/name, such as hf://me/my-model.{hint}"
        )
    repo, branch = match[1], match[2]
    folder = Path(directory).expanduser()
    names = _checked_files(folder)
    card = model_card(folder, f"hf://{repo}").encode()
    if dry_run:
        from huggingface_hub import constants

        return f"{endpoint() or constants.ENDPOINT}/{repo}"
    if is_offline():
        raise HubError(
            f"HF_HUB_OFFLINE is set, and {repo} is on the Hub: unset it to upload."
        )
    from huggingface_hub import CommitOperationAdd, HfApi

    files: dict[str, Path | bytes] = {name: folder / name for name in names}
    with hub_errors(repo, branch):
        client = HfApi(endpoint=endpoint(), token=token)
        client.create_repo(repo, private=private, exist_ok=True)
        commit = client.create_commit(
            repo,
            [
                CommitOperationAdd(path_in_repo=name, path_or_fileobj=content)
                for name, content in {**files, README: card}.items()
            ],
            revision=branch,
            commit_message=message or "Upload a preset of keras_pe",
        )
    return str(commit.commit_url)


def _checked_files(directory: Path) -> list[str]:
    """Returns the names of the files to upload, but for the card."""
    if not (directory / METADATA).is_file():
        raise CheckpointError(
            f"{directory} holds no preset: there is no {METADATA}. Write one with "
            f"save_to_preset."
        )
    metadata = read_metadata(directory)
    if CONFIG not in metadata["files"]:
        raise CheckpointError(
            f"{directory} holds no model ({', '.join(metadata['files'])}). Save the "
            f"model there too."
        )
    for name in metadata["files"]:
        verify_file(directory, name, metadata)
    names = [*metadata["files"], METADATA]
    found = sorted(path.name for path in directory.iterdir())
    others = [name for name in found if name not in (*names, README)]
    if others:
        raise CheckpointError(
            f"{directory} holds {', '.join(others[:5])}, which does not belong to the "
            f"preset. Move it elsewhere, or it might be published by mistake."
        )
    return names
