"""Fetches files from the Hugging Face Hub into its cache, with errors that help."""

import contextlib
import hashlib
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from keras_pe.presets.checksums import MAX_JSON_BYTES, SHA256, sha256_of
from keras_pe.presets.hub_errors import (
    HubError,
    NotCachedError,
    NotOnHubError,
    hub_errors,
    repo_name,
)

# Names that tell where a snapshot is cached when the Hub can't be asked.
USUAL_FILES = (
    "config.json",
    "metadata.json",
    "open_clip_config.json",
    "open_clip_model.safetensors",
    "model.safetensors",
)


# How the Hub names a file's content: large files by SHA-256, small ones as git does.
GIT_SHA1 = re.compile(r"[0-9a-f]{40}")
# The largest published file has 10 GB.
MAX_FILE_BYTES = 64 * 2**30
# Seconds until a Hub that does not answer counts as out of reach.
PATIENCE = 5.0


def endpoint() -> str | None:
    """Returns the Hub's address from HF_ENDPOINT, read now and not at import."""
    address = os.environ.get("HF_ENDPOINT", "").rstrip("/")
    return address or None


def cache_directory() -> str | None:
    """Returns the Hub's cache from HF_HUB_CACHE, read now and not at import."""
    return os.environ.get("HF_HUB_CACHE") or None


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the Hub."""
    from huggingface_hub import constants

    value = os.environ.get("HF_HUB_OFFLINE", "")
    return bool(value.upper() in ("1", "ON", "YES", "TRUE") or constants.HF_HUB_OFFLINE)


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
        with hub_errors(repo, revision):
            info = HfApi(endpoint=endpoint()).model_info(
                repo, revision=revision, timeout=PATIENCE
            )
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

    size = None
    if not is_offline():
        try:
            size = _size(repo, name, revision)
        except NotOnHubError:
            raise
        except HubError:  # what is cached still works
            cached = _cached_path(repo, name, revision)
            if cached is None:
                raise
            return cached
    with hub_errors(repo, revision, name), _checked_names():
        return Path(
            hf_hub_download(
                repo,
                name,
                revision=revision,
                endpoint=endpoint(),
                cache_dir=cache_directory(),
                local_files_only=is_offline(),
                # As it is: unpacked, a few kilobytes can fill a disk.
                headers={"Accept-Encoding": "identity"},
                **_no_more_than(size, name),
            )
        )


def _size(repo: str, name: str, revision: str | None) -> int:
    """Asks the Hub once for a file's size; refuses one that is absurd.

    The client's own question is repeated for 20 seconds if nobody answers.
    """
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with hub_errors(repo, revision, name), _checked_names():
        url = hf_hub_url(repo, name, revision=revision, endpoint=endpoint())
        found = get_hf_file_metadata(url, timeout=PATIENCE, endpoint=endpoint())
    most = MAX_JSON_BYTES if name.endswith(".json") else MAX_FILE_BYTES
    if found.size is None or found.size > most:
        size = "no size" if found.size is None else f"{found.size:,} bytes"
        raise HubError(
            f"{name} of {repo_name(repo, revision)} has {size}, expected at most "
            f"{most:,} bytes. Nothing was fetched."
        )
    return int(found.size)


def _no_more_than(size: int | None, name: str) -> dict[str, Any]:
    """Returns an argument for the client that ends a transfer of too many bytes."""
    import inspect

    from huggingface_hub import hf_hub_download
    from huggingface_hub.utils.tqdm import tqdm

    if (
        size is None
        or "tqdm_class" not in inspect.signature(hf_hub_download).parameters
    ):
        return {}

    most = 2 * size + 2**20  # a transfer that breaks off may begin again

    class Counted(tqdm):
        """The client's progress bar, which it tells of every piece."""

        # A class's first bar starts a thread that never ends, one for each of these.
        monitor_interval = 0
        seen = 0

        def update(self, n: float | None = 1) -> bool | None:
            Counted.seen += max(int(n or 0), 0)
            if Counted.seen > most:
                raise HubError(
                    f"{name} brings more than the {size:,} bytes that the Hub says it "
                    f"has. The transfer was ended."
                )
            return super().update(n)

    return {"tqdm_class": Counted}


@contextlib.contextmanager
def _checked_names() -> Iterator[None]:
    """Refuses answers that name a file's content otherwise than by a hash.

    The client takes that name, the ETag, for the name of a file in its cache.
    """
    from huggingface_hub import utils

    session: Any = utils.get_session()  # type: ignore[attr-defined]
    hooks = getattr(session, "event_hooks", None)
    if hooks is None:  # a client that is built on another HTTP library
        yield
        return
    session.event_hooks = {**hooks, "response": [*hooks["response"], _check_name]}
    try:
        yield
    finally:
        session.event_hooks = hooks


def _check_name(response: Any) -> None:
    if "X-Repo-Commit" not in response.headers or response.status_code >= 400:
        return
    named = response.headers.get("X-Linked-Etag") or response.headers.get("ETag") or ""
    plain = named.removeprefix("W/").strip('"')
    commit = response.headers["X-Repo-Commit"]
    if not (SHA256.fullmatch(plain) or GIT_SHA1.fullmatch(plain)):
        raise HubError(
            f"{response.request.url} is named {named[:80]!r}, expected a SHA-256 or a "
            f"git hash. This is no Hub: check HF_ENDPOINT. Nothing was written."
        )
    if not GIT_SHA1.fullmatch(commit):
        raise HubError(
            f"{response.request.url} is of the commit {commit[:80]!r}, expected a git "
            f"hash. This is no Hub: check HF_ENDPOINT. Nothing was written."
        )


def _verify_content(path: Path) -> None:
    """Compares a fresh file with the hash by which the Hub names it.

    The Hub's client compares sizes only. A bad file must not stay in the cache, where
    the next call would take it for good.
    """
    blob = path.resolve()
    if not path.is_symlink():
        return
    if SHA256.fullmatch(blob.name):
        kind, actual = "SHA-256", sha256_of(blob)
    elif GIT_SHA1.fullmatch(blob.name):
        kind, actual = "git hash", _git_hash(blob)
    else:
        return
    if actual != blob.name:
        path.unlink()
        blob.unlink()
        raise HubError(
            f"{path.name} was damaged in transfer: its {kind} is {actual}, the Hub "
            f"says {blob.name}. It was deleted from the cache; call again."
        )


def _git_hash(path: Path) -> str:
    """Returns the hash by which git names a file's content."""
    content = path.read_bytes()  # of a few kilobytes: larger files have a SHA-256
    header = f"blob {len(content)}\0".encode()
    return hashlib.sha1(header + content, usedforsecurity=False).hexdigest()


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
        f"{repo_name(repo, revision)} is not in the cache, and the Hub can't be asked "
        f"(HF_HUB_OFFLINE is set, or there is no connection). Load it once with a "
        f"connection, or copy the files here and give the directory."
    )


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
