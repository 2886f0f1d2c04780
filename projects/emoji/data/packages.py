"""Fetch the pinned npm packages and read only the members that are needed."""

import hashlib
import json
import subprocess
import tarfile
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Literal

MAX_MEMBER_BYTES = 64 * 2**20
_LIST = Path(__file__).with_name("packages.json")
EXTRA_LIST = Path(__file__).with_name("extra_packages.json")


class PackageError(RuntimeError):
    """A package is missing, altered, or unsafe to open."""


@dataclass(frozen=True)
class Package:
    """One pinned package and what is taken from it."""

    name: str
    version: str
    sha512: str
    members: tuple[str, ...]
    role: Literal["train", "test", "text", "icons"]
    licence: str
    vendor: str | None = None
    left_out: tuple[str, ...] = ()  # patterns of names: brands, mistaken names...

    @property
    def file_name(self) -> str:
        """Name that ``npm pack`` gives to the tarball."""
        stem = self.name.removeprefix("@").replace("/", "-")
        return f"{stem}-{self.version}.tgz"


def load_packages(path: Path = _LIST) -> list[Package]:
    """Reads the committed list of pinned packages."""
    table = json.loads(path.read_text(encoding="utf-8"))
    return [
        Package(
            name=name,
            version=entry["version"],
            sha512=entry["sha512"],
            members=tuple(entry["members"]),
            role=entry["role"],
            licence=entry["licence"],
            vendor=entry.get("vendor"),
            left_out=tuple(entry.get("left_out", ())),
        )
        for name, entry in table.items()
    ]


def verify(package: Package, path: Path) -> None:
    """Raises :class:`PackageError` unless the tarball has the pinned checksum."""
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha512").hexdigest()
    if found != package.sha512:
        raise PackageError(
            f"{path.name}: SHA-512 is {found[:16]}..., but packages.json pins "
            f"{package.sha512[:16]}...; delete the file and try again."
        )


def obtain(package: Package, cache: Path) -> Path:
    """Returns the verified tarball, downloading it when the cache lacks it."""
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / package.file_name
    if not path.exists():
        _npm_pack(package, cache)
    if not path.exists():
        raise PackageError(f"npm pack did not write {package.file_name}.")
    verify(package, path)
    return path


def _npm_pack(package: Package, cache: Path) -> None:
    """Downloads one exact version with the ordinary npm client."""
    command = ["npm", "pack", "--silent", "--ignore-scripts"]
    command += ["--pack-destination", str(cache.resolve())]
    command.append(f"{package.name}@{package.version}")
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise PackageError("npm is not installed; it fetches the icons.") from error
    except subprocess.CalledProcessError as error:
        raise PackageError(
            f"npm pack {package.name}@{package.version} failed: {error.stderr.strip()}"
        ) from error


def read_members(path: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """Reads the named members into memory; nothing is written to disk.

    A name may be a pattern, as in ``package/assets/*.webp``. The archive is
    refused as a whole when any member has an absolute path, a ``..`` part, or
    is anything but a regular file or a directory.
    """
    members: dict[str, bytes] = {}
    with tarfile.open(path, "r:gz") as archive:
        for member in archive:
            _check_member(member)
            if not any(fnmatchcase(member.name, name) for name in names):
                continue
            if member.name in members:
                raise PackageError(f"Member {member.name!r} occurs twice.")
            stream = archive.extractfile(member)
            if stream is None:
                raise PackageError(f"Member {member.name!r} is not a file.")
            members[member.name] = stream.read()
    missing = [n for n in names if not any(fnmatchcase(f, n) for f in members)]
    if missing:
        raise PackageError(f"{path.name} lacks {', '.join(missing)}.")
    return members


def _check_member(member: tarfile.TarInfo) -> None:
    """Refuses members that could reach outside of an extraction folder."""
    pure = PurePosixPath(member.name)
    if pure.is_absolute() or ".." in pure.parts or "\\" in member.name:
        raise PackageError(f"Unsafe path in archive: {member.name!r}.")
    if not (member.isreg() or member.isdir()):
        raise PackageError(f"Links and devices are refused: {member.name!r}.")
    if member.size > MAX_MEMBER_BYTES:
        raise PackageError(f"Member {member.name!r} is too large.")
