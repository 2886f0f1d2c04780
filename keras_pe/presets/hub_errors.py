"""What is wrong with the Hugging Face Hub, or with what was asked of it."""

import contextlib
from collections.abc import Iterator

from keras_pe.presets.report import CheckpointError


class HubError(CheckpointError):
    """A repository of the Hub that can't be read."""


class NotOnHubError(HubError):
    """A repository, revision or file that is not there, or not for this user."""


class NotCachedError(HubError):
    """A file that is not in the cache while the Hub can't be asked."""


@contextlib.contextmanager
def hub_errors(
    repo: str, revision: str | None, name: str | None = None
) -> Iterator[None]:
    """Turns the client's errors into ours, which say what to do."""
    from huggingface_hub import errors

    what = repo_name(repo, revision)
    try:
        yield
    except HubError:  # what is checked here says itself what is wrong
        raise
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
        status = getattr(getattr(error.__cause__, "response", None), "status_code", 0)
        if status:
            raise HubError(_refusal(name, what, status)) from error
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
        status = getattr(error.response, "status_code", 0)
        kind = NotOnHubError if status in (401, 403, 404) else HubError
        raise kind(_refusal(name, what, status)) from error
    # The base of the transport errors of whichever HTTP library the client uses.
    except (OSError, errors.HTTPError) as error:  # type: ignore[attr-defined]
        if _is_unreachable(error):
            raise NotCachedError(
                f"{name or 'The list of files'} of {what} is not in the cache, and the "
                f"Hub can't be asked: there is no connection "
                f"({str(error)[:200] or type(error).__name__}). Load it once with a "
                f"connection, or copy the files here and give the directory."
            ) from error
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


def _is_unreachable(error: BaseException) -> bool:
    """Whether nobody answered, as opposed to a transfer that broke off."""
    names = {kind.__name__ for kind in type(error).__mro__}
    return bool(names & {"ConnectError", "ConnectTimeout", "ConnectionError"}) or (
        "TimeoutException" in names
    )


def _refusal(name: str | None, what: str, status: int) -> str:
    wanted = f"{name or 'the list of files'} of {what}"
    if status in (401, 403):
        return (
            f"The Hub refused {wanted} with HTTP status {status}. Log in (hf auth "
            f"login) or set HF_TOKEN if it is private."
        )
    if status == 404:
        return f"The Hub has no {wanted} (HTTP status 404). Check the spelling."
    if status == 429:
        return (
            f"The Hub has had too many requests from here for now (HTTP status 429 "
            f"for {wanted}). Wait some minutes, or log in (hf auth login)."
        )
    return (
        f"The Hub is there, but failed to give {wanted}: HTTP status {status}. The "
        f"fault is on its side; try again later."
    )


def repo_name(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo
