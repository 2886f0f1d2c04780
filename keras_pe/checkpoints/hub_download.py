"""Fetches files from the Hugging Face Hub into its cache, with errors that help."""

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_pe.checkpoints.checksums import SHA256, sha256_of
from keras_pe.checkpoints.report import CheckpointError

# Names that tell where a snapshot is cached when the Hub can't be asked.
USUAL_FILES = (
    "config.json",
    "metadata.json",
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "model.safetensors",
)


class HubError(CheckpointError):
    """A repository of the Hub that can't be read."""


class NotOnHubError(HubError):
    """A repository, revision or file that is not there, or not for this user."""


class NotCachedError(HubError):
    """A file that is not in the cache while the Hub can't be asked."""


def endpoint() -> str | None:
    """Returns the Hub's address from HF_ENDPOINT, read now and not at import."""
    address = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return address or None


def cache_directory() -> str | None:
    """Returns the Hub's cache from HF_HUB_CACHE, read now and not at import."""
    return os.environ.get("HF_HUB_CACHE") or None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the Hub."""
    import huggingface_hub

    value = os.environ.get("HF_HUB_OFFLINE", "")
    return bool(
        value.upper() in ("1", "ON", "YES", "TRUE")
        or huggingface_hub.constants.HF_HUB_OFFLINE
    )


def is_cached(repo: str, name: str, revision: str | None = None) -> bool:
    """Whether a file is in the cache, without asking the Hub."""
    return _cached_path(repo, name, revision) is not None


def list_files(repo: str, revision: str | None) -> list[str]:
    """Returns the names of the files of a repository, of the cache when offline.

    Raises:
        HubError: if the repository can't be listed and is not cached.
    """
    from huggingface_hub import HfApi

    if is_offline():
        return _list_cached(repo, revision)
    try:
        with _hub_errors(repo, revision):
            info = HfApi(endpoint=endpoint()).model_info(repo, revision=revision)
            names = [sibling.rfilename for sibling in info.siblings or ()]
            if not all(isinstance(name, str) for name in names):
                raise TypeError(f"names of files such as {names[:3]}")
    except NotOnHubError:
        raise
    except HubError:  # no connection: what is cached still works
        with contextlib.suppress(HubError):
            return _list_cached(repo, revision)
        raise
    return names


def download(
    repo: str, names: Sequence[str], revision: str | None, progress: bool = False
) -> Path:
    """Brings files into the Hub's cache, and returns the directory that has them.

    A transfer that breaks off is resumed; a file that is cached is not fetched again.

    Args:
        repo: owner and name.
        names: the files.
        revision: branch, tag or commit; None for the main branch.
        progress: whether the Hub's progress bar may be shown.

    Raises:
        HubError: if a file can't be had.
    """
    paths = []
    with contextlib.nullcontext() if progress else _no_progress_bars():
        for name in names:
            cached = _cached_path(repo, name, revision)
            path = _download_one(repo, name, revision)
            if path != cached:
                _verify_content(path)
            paths.append(path)
    directories = {path.parent for path in paths}
    if len(directories) != 1:
        raise HubError(
            f"{repo} changed on the Hub while it was downloaded: its files come from "
            f"different commits. Call again."
        )
    return directories.pop()


def _download_one(repo: str, name: str, revision: str | None) -> Path:
    from huggingface_hub import hf_hub_download

    with _hub_errors(repo, revision, name):
        return Path(
            hf_hub_download(
                repo,
                name,
                revision=revision,
                endpoint=endpoint(),
                cache_dir=cache_directory(),
                local_files_only=is_offline(),
            )
        )


def _verify_content(path: Path) -> None:
    """Compares a fresh large file with the SHA-256 by which the Hub names it.

    The Hub's client compares sizes only. A bad file must not stay in the cache, where
    the next call would take it for good.
    """
    blob = path.resolve()
    if not path.is_symlink() or not SHA256.fullmatch(blob.name):
        return
    actual = sha256_of(blob)
    if actual != blob.name:
        path.unlink()
        blob.unlink()
        raise HubError(
            f"{path.name} was damaged in transfer: its SHA-256 is {actual}, the Hub "
            f"says {blob.name}. It was deleted from the cache; call again."
        )


def _cached_path(repo: str, name: str, revision: str | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(
        repo, name, cache_dir=cache_directory(), revision=revision
    )
    return Path(found) if isinstance(found, str) else None


def _list_cached(repo: str, revision: str | None) -> list[str]:
    usual = (*USUAL_FILES, f"{repo.split('/')[-1]}.pt")
    for name in usual:
        path = _cached_path(repo, name, revision)
        if path is not None:
            return sorted(found.name for found in path.parent.iterdir())
    raise NotCachedError(
        f"{_where(repo, revision)} is not in the cache, and the Hub can't be asked "
        f"(HF_HUB_OFFLINE is set, or there is no connection). Load it once with a "
        f"connection, or copy the files here and give the directory."
    )


@contextlib.contextmanager
def _hub_errors(
    repo: str, revision: str | None, name: str | None = None
) -> Iterator[None]:
    """Turns the client's errors into ours, which say what to do."""
    from huggingface_hub import errors

    what = _where(repo, revision)
    try:
        yield
    except errors.GatedRepoError as error:
        raise NotOnHubError(
            f"{what} is gated: accept its conditions on its page of the Hub, then log "
            f"in (hf auth login) or set HF_TOKEN."
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise NotOnHubError(
            f"The Hub has no {what}, or it is private. Check the spelling; for a "
            f"private repository log in (hf auth login) or set HF_TOKEN."
        ) from error
    except errors.RevisionNotFoundError as error:
        raise NotOnHubError(
            f"{repo} has no revision {revision!r}. Give a branch, tag or commit of "
            f"it: hf://{repo}@main."
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise NotCachedError(
            f"{name} of {what} is not in the cache, and the Hub can't be asked "
            f"(HF_HUB_OFFLINE is set, or there is no connection: "
            f"{error.__cause__ or 'offline'})."
        ) from error
    except errors.EntryNotFoundError as error:
        raise NotOnHubError(f"{what} has no file {name}.") from error
    except errors.HFValidationError as error:
        raise HubError(f"{repo!r} is no repository name: {error}") from error
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        kind = NotOnHubError if status in (401, 403, 404) else HubError
        raise kind(
            f"The Hub refused {name or 'the list of files'} of {what} with HTTP "
            f"status {status}. Log in (hf auth login) if it is private; otherwise try "
            f"again later."
        ) from error
    # The base of the transport errors of whichever HTTP library the client uses.
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        raise HubError(
            f"{name or 'The list of files'} of {what} could not be fetched ({error}). "
            f"Check the connection and call again; finished files are kept."
        ) from error
    # The client takes any answer for the Hub's: one of another make ends in these.
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise HubError(
            f"The answer about {name or 'the list of files'} of {what} is none that "
            f"the Hub gives ({type(error).__name__}: {error}). A proxy, a mirror or "
            f"the sign-in page of a network may have given it: check HF_ENDPOINT and "
            f"the connection, and call again."
        ) from error


def _where(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo


@contextlib.contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keeps the client quiet about files of a few kilobytes."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if are_progress_bars_disabled():
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # HF_HUB_DISABLE_PROGRESS_BARS=0 has its way
        disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
