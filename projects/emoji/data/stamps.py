"""Obtain the Tux Paint stamps and read some of them, without unpacking to disk."""

import hashlib
import io
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from projects.emoji.data.packages import PackageError

PACKAGE = "tuxpaint-stamps-default"
VERSION = "2022.06.04-1"
SHA256 = "6db6c1bfc870a47f1499d6203b083522eacb57c5f9c87d468f2e92eb6d9d5f34"
FOLDER = "./usr/share/tuxpaint/stamps/"
MAX_MEMBER_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Stamp:
    """An image with the English line that describes it."""

    name: str
    image: Image.Image
    description: str


def obtain_stamps(cache: Path) -> Path:
    """Returns the verified Debian package, downloading it when missing."""
    cache = cache.resolve()
    cache.mkdir(parents=True, exist_ok=True)
    path = cache / f"{PACKAGE}_{VERSION}_all.deb"
    if not path.exists():
        command = ["apt-get", "download", f"{PACKAGE}={VERSION}"]
        try:
            subprocess.run(
                command, cwd=cache, check=True, capture_output=True, text=True
            )
        except (FileNotFoundError, subprocess.CalledProcessError) as error:
            detail = getattr(error, "stderr", None) or str(error)
            raise PackageError(
                f"apt-get download {PACKAGE}={VERSION} failed (run apt-get update "
                f"first): {detail.strip()}"
            ) from error
    with path.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != SHA256:
        raise PackageError(f"{path.name}: SHA-256 is {found}, expected {SHA256}.")
    return path


def read_stamps(package: Path, wanted: Callable[[str], bool]) -> list[Stamp]:
    """Reads the wanted PNG stamps that have a description, sorted by name."""
    images: dict[str, bytes] = {}
    texts: dict[str, bytes] = {}
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        with tarfile.open(fileobj=process.stdout, mode="r|") as archive:
            for member in archive:
                name = member.name.removeprefix(FOLDER)
                stem, _, kind = name.rpartition(".")
                png = f"{stem}.png"
                if name == member.name or kind not in ("png", "txt"):
                    continue
                if not (member.isreg() and wanted(png)):
                    continue
                if member.size > MAX_MEMBER_BYTES:
                    raise PackageError(f"Member {member.name!r} is too large.")
                stream = archive.extractfile(member)
                assert stream is not None
                (images if kind == "png" else texts)[png] = stream.read()
    if process.returncode:
        raise PackageError(f"dpkg-deb could not read {package.name}.")
    stamps = []
    for name in sorted(images.keys() & texts.keys()):
        description = texts[name].decode("utf-8").partition("\n")[0].strip()
        with Image.open(io.BytesIO(images[name])) as image:
            stamps.append(Stamp(name, image.convert("RGBA"), description))
    return stamps
