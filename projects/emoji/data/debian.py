"""Fetch a pinned Debian package and read its regular files, without unpacking."""

import hashlib
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from projects.emoji.data.packages import PackageError

MAX_MEMBER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class DebianPackage:
    """One package for all architectures, pinned by version and checksum."""

    name: str
    version: str
    sha256: str

    @property
    def file_name(self) -> str:
        """Name that ``apt-get download`` gives to the file."""
        return f"{self.name}_{self.version.replace(':', '%3a')}_all.deb"


def obtain_deb(package: DebianPackage, cache: Path) -> Path:
    """Returns the verified package, downloading it when the cache lacks it."""
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / package.file_name
    wanted = f"{package.name}={package.version}"
    if not path.exists():
        command = ["apt-get", "download", wanted]
        try:
            subprocess.run(
                command, cwd=cache, check=True, capture_output=True, text=True
            )
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            detail = getattr(error, "stderr", None) or str(error)
            raise PackageError(
                f"apt-get download {wanted} failed (run apt-get update first): "
                f"{detail.strip()}"
            ) from error
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != package.sha256:
        raise PackageError(
            f"{path.name}: SHA-256 is {found}, expected {package.sha256}; "
            "delete the file and try again."
        )
    return path


def read_deb(
    path: Path, folder: str, wanted: Callable[[str], bool]
) -> Iterator[tuple[str, bytes]]:
    """Yields name below the folder and content of wanted files; links are left out."""
    command = ["dpkg-deb", "--fsys-tarfile", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix(folder)
                if name == member.name or not (member.isreg() and wanted(name)):
                    continue
                if member.size > MAX_MEMBER_BYTES:
                    raise PackageError(f"Member {member.name!r} is too large.")
                stream = archive.extractfile(member)
                assert stream is not None
                yield name, stream.read()
    if process.returncode:
        raise PackageError(f"dpkg-deb could not read {path.name}.")
