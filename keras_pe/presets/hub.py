"""Handles: what a user writes to name a model, and the local files that it means."""

import dataclasses
import difflib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from keras_pe.folder_reading import whole_directory
from keras_pe.presets import download as hub_download
from keras_pe.presets.checksums import METADATA, read_metadata
from keras_pe.presets.hub_errors import HubError, NotCachedError, NotOnHubError
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.serialized import PREFIX
from keras_pe.presets.table import PRESETS
from keras_pe.presets.table_row import Preset, Source

CONFIG = "config.json"
# What else a preset of `keras_pe.language.VisionLanguageModel` has.
LANGUAGE, LANGUAGE_WEIGHTS = "language.json", "language.safetensors"
CHAT_TOKENIZERS = ("chat_tokenizer.json", "chat_tokenizer.spm")  # one of them
# What else one of `keras_pe.ImageClassifier` has.
CLASSIFIER, CLASSIFIER_WEIGHTS = "classifier.json", "classifier.safetensors"
# The small files of a preset.
OBJECTS = (CONFIG, "tokenizer.json", "image_converter.json", "video_converter.json")
OPEN_CLIP = "open_clip_model.safetensors"
PICKLED = (".pt", ".pth", ".bin", ".ckpt")
HUB = re.compile(r"hf://([A-Za-z0-9][\w.-]*/[\w.-]+?)(?:@([\w][\w./-]*))?/?")
KAGGLE = re.compile(r"kaggle://([\w-]+/[\w-]+/[\w-]+/[\w.-]+(?:/\d+)?)/?")
Need = Literal["weights", "config"]

# Names of the classes in `keras_pe.kerashub` begin so.
KERASHUB_PREFIX = "keras_pe.kerashub>"


class KerasHubPreset(CheckpointError):
    """Says that KerasHub wrote a preset, of a class of `keras_pe.kerashub`."""

    def __init__(self, handle: str, registered_name: str) -> None:
        name = registered_name.removeprefix(KERASHUB_PREFIX)
        super().__init__(
            f"{handle} holds a {name} that KerasHub wrote, without the checksums that "
            f"keras_pe's own presets have. Load it with keras_pe.kerashub.{name}."
            f"from_preset; its encoder's save_to_preset then writes a preset of ours."
        )


@dataclasses.dataclass(frozen=True)
class Location:
    """The local files that a handle means.

    Attributes:
        handle: what the user wrote.
        directory: a preset in our own format, or None.
        checkpoint: a file of another project, or None.
        preset: the row of the preset table that is meant, if it is one. A foreign
            preset of which only the configuration is needed has nothing else.
    """

    handle: str
    directory: Path | None = None
    checkpoint: Path | None = None
    preset: Preset | None = None


def resolve(
    handle: str | os.PathLike[str],
    need: Need = "weights",
    vision_only: bool = False,
) -> Location:
    """Finds the files of a handle; downloads what is not there yet.

    Args:
        handle: a preset's name or alias, a local directory or checkpoint file,
            `hf://owner/repo[@revision]` or
            `kaggle://owner/model/framework/variation[/version]`.
        need: "config" downloads no weights where the architecture is known without.
        vision_only: whether a file with the vision tower alone will do.

    Returns:
        A `Location`. Checksums are compared when it is loaded.

    Raises:
        CheckpointError: if there is no such thing; names the closest presets.
        TypeError: if the handle is neither text nor a path.

    Example:
        >>> resolve("PE-Core-L14-336", need="config").preset.name
        'pe_core_large_patch14_336'
    """
    handle = _text_of(handle)
    if not handle:  # as a path it would be the current folder
        raise unknown_preset(handle)
    if handle.startswith("hf://"):
        match = HUB.fullmatch(handle)
        if match is None:
            raise CheckpointError(
                f"{handle!r} is no handle of the Hub. Expected "
                f"hf://owner/repo[@revision], such as hf://facebook/PE-Core-L14-336."
            )
        return _on_hub(handle, match[1], match[2], need)
    if handle.startswith("kaggle://"):
        return _in_directory(handle, _from_kaggle(handle), None)
    if "://" in handle:
        raise CheckpointError(
            f"{handle!r} has an unknown scheme. Expected a preset's name, a local "
            f"path, hf://... or kaggle://...; download other addresses first."
        )
    preset = find_preset(handle)
    if preset is not None:
        return _of_preset(handle, preset, need, vision_only)
    path = Path(handle).expanduser()
    if not path.exists():  # a writer may be replacing it, or was killed at that
        path = whole_directory(path)
    if path.is_dir():
        return _in_directory(handle, path, None)
    if path.is_file():
        return Location(handle, checkpoint=path)
    raise unknown_preset(handle)


def known_preset(handle: str | os.PathLike[str]) -> Preset | None:
    """Returns the row of the preset table that a handle means; downloads nothing."""
    handle = _text_of(handle)
    match = HUB.fullmatch(handle)
    return preset_of_repo(match[1]) if match else find_preset(handle)


def _text_of(handle: str | os.PathLike[str]) -> str:
    """Returns a handle as text; a path becomes its name."""
    text = os.fspath(handle) if isinstance(handle, str | os.PathLike) else None
    if not isinstance(text, str):
        raise TypeError(
            f"A preset is given by its name, path or address as text, got {handle!r} "
            f"({type(handle).__name__}). keras_pe.list_presets() has the names."
        )
    return text


# === Presets of the table ===
def _of_preset(handle: str, preset: Preset, need: str, vision_only: bool) -> Location:
    if preset.directory is not None:
        if not preset.directory.is_dir():
            raise CheckpointError(
                f"The preset {preset.name} ships with keras_pe, but "
                f"{preset.directory} is missing. Reinstall keras_pe."
            )
        return Location(handle, directory=preset.directory, preset=preset)
    if need == "config":
        return Location(handle, preset=preset)
    sources = [source for source in preset.sources if not source.vision_only]
    if vision_only:  # half the download or less
        sources = sorted(preset.sources, key=lambda source: not source.vision_only)
    checkpoint = _first_of(preset, sources)
    return Location(handle, checkpoint=checkpoint, preset=preset)


def _first_of(preset: Preset, sources: Sequence[Source]) -> Path:
    """Returns the file of the first source that has it."""
    failures: list[str] = []
    unreachable = False
    for source in sources:
        # No connection: asking for the next file would only wait once more.
        if unreachable and not hub_download.is_cached(source.repo, source.file):
            continue
        try:
            directory = hub_download.download(
                source.repo, [source.file], None, progress=True
            )
            return directory / source.file
        # A broken transfer is not among these: it is to be repeated, not replaced by
        # the file of another source.
        except (NotOnHubError, NotCachedError) as error:
            unreachable = isinstance(error, NotCachedError)
            failures.append(str(error))
    raise HubError(
        f"The weights of {preset.name} are at none of their sources: "
        + " | ".join(failures)
    )


# === The Hugging Face Hub ===
def _on_hub(handle: str, repo: str, revision: str | None, need: str) -> Location:
    preset = preset_of_repo(repo)
    if preset is not None and need == "config":
        return Location(handle, preset=preset)
    names = hub_download.list_files(repo, revision)
    if CONFIG in names and METADATA in names:
        small = [CONFIG, METADATA, *(name for name in OBJECTS[1:] if name in names)]
        directory = hub_download.download(repo, small, revision)
        registered_name = _registered_name(directory / CONFIG)
        if registered_name.startswith(KERASHUB_PREFIX):
            raise KerasHubPreset(handle, registered_name)
        if registered_name.startswith(PREFIX):
            if need == "weights":
                more = [LANGUAGE, LANGUAGE_WEIGHTS, *CHAT_TOKENIZERS]
                more += [CLASSIFIER, CLASSIFIER_WEIGHTS]
                weights = weight_files(directory) + [x for x in more if x in names]
                hub_download.download(repo, weights, revision, progress=True)
            return Location(handle, directory=directory)
    checkpoint = _choose(names, repo, revision)
    directory = hub_download.download(repo, [checkpoint], revision, progress=True)
    return Location(handle, checkpoint=directory / checkpoint, preset=preset)


def _choose(names: Sequence[str], repo: str, revision: str | None) -> str:
    """Returns the checkpoint of a foreign repository."""
    found = _checkpoint(names, repo)
    if found is not None:
        return found
    if CONFIG in names:
        directory = hub_download.download(repo, [CONFIG], revision)
        found = _registered_name(directory / CONFIG)
        if found:
            raise CheckpointError(
                f"{repo} holds a {found} for Keras, expected a Perception Encoder."
            )
    raise CheckpointError(_no_checkpoint(repo, names))


# === Directories ===
def weight_files(directory: Path) -> list[str]:
    """Returns the names of the weight files of a preset, from its metadata."""
    files = read_metadata(directory)["files"]
    names = [name for name in files if name.endswith((".h5", ".weights.json"))]
    if not names:
        raise CheckpointError(
            f"{directory / METADATA} lists no weights, expected model.weights.h5 or "
            f"model.weights.json. It has {', '.join(files)}. Save the preset again."
        )
    return names


def _in_directory(handle: str, directory: Path, preset: Preset | None) -> Location:
    registered_name = _registered_name(directory / CONFIG)
    if registered_name.startswith(KERASHUB_PREFIX):
        raise KerasHubPreset(handle, registered_name)
    if registered_name.startswith(PREFIX):
        return Location(handle, directory=directory, preset=preset)
    # A damaged preset is still a preset: its checksums say what is wrong. So is one
    # with a tokenizer or converter alone.
    own = any((directory / name).is_file() for name in OBJECTS)
    if (directory / METADATA).is_file() and own:
        return Location(handle, directory=directory, preset=preset)
    names = [path.name for path in directory.iterdir() if path.is_file()]
    found = _checkpoint(names, directory.name)
    if found is None:
        raise CheckpointError(_no_checkpoint(str(directory), names))
    return Location(handle, checkpoint=directory / found, preset=preset)


def _checkpoint(names: Sequence[str], where: str) -> str | None:
    """Returns the file to load: safetensors if there is one."""
    own_name = where.split("/")[-1]
    for name in (OPEN_CLIP, "model.safetensors"):
        if name in names:
            return name
    for suffixes in ((".safetensors",), PICKLED):
        found = [name for name in names if name.endswith(suffixes) and "/" not in name]
        if len(found) > 1:
            found = [n for n in found if n.rsplit(".", 1)[0] == own_name] or found
        if len(found) > 1:
            raise CheckpointError(
                f"{where} holds several checkpoints ({', '.join(sorted(found))}). Give "
                f"the path of one of them instead."
            )
        if found:
            return found[0]
    return None


def _no_checkpoint(where: str, names: Sequence[str]) -> str:
    listed = ", ".join(sorted(names)[:8]) or "no files"
    return (
        f"{where} holds neither a keras_pe preset (config.json and metadata.json) nor "
        f"a checkpoint (*.safetensors, *.pt); it has {listed}."
    )


def _registered_name(path: Path) -> str:
    """Returns which Keras class a config.json describes; "" if none."""
    if not path.is_file():
        return ""
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return ""
    name = content.get("registered_name") if isinstance(content, dict) else None
    return name if isinstance(name, str) else ""


# === Kaggle ===
def _from_kaggle(handle: str) -> Path:
    match = KAGGLE.fullmatch(handle)
    if match is None:
        raise CheckpointError(
            f"{handle!r} is no handle of Kaggle Models. Expected "
            f"kaggle://owner/model/framework/variation[/version]."
        )
    try:
        import kagglehub
    except ImportError as error:
        raise CheckpointError(
            f"{handle} needs kagglehub, which is not installed: pip install kagglehub."
        ) from error
    try:
        return Path(kagglehub.model_download(match[1]))
    except Exception as error:  # whatever its HTTP library raises
        raise CheckpointError(
            f"{handle} could not be fetched from Kaggle: {error}. Check the handle; a "
            f"private model needs kagglehub.login()."
        ) from error


# === Names in the table ===
def find_preset(name: str) -> Preset | None:
    """Returns the preset of a name or alias, or None.

    Args:
        name: our name or the official one; upper and lower case are the same.

    Example:
        >>> find_preset("pe-core-l14-336").name
        'pe_core_large_patch14_336'
    """
    wanted = name.lower()
    for preset in PRESETS.values():
        names = filter(None, (preset.name, preset.official_name))  # not all have both
        if wanted in map(str.lower, names):
            return preset
    return None


def preset_of_repo(repo: str) -> Preset | None:
    """Returns the preset whose weights are in a repository of the Hub, or None.

    Args:
        repo: owner and name.

    Example:
        >>> preset_of_repo("facebook/PE-Lang-L14-448").name
        'pe_lang_large_patch14_448'
    """
    for preset in PRESETS.values():
        if any(source.repo.lower() == repo.lower() for source in preset.sources):
            return preset
    return None


def unknown_preset(name: str) -> CheckpointError:
    """Returns the error for a name that is none, with the closest ones."""
    known: dict[str, str] = {}  # lower case to the way it is written
    for preset in PRESETS.values():
        for spelling in filter(None, (preset.name, preset.official_name)):
            known[spelling.lower()] = spelling
    wanted = name.lower()
    close = difflib.get_close_matches(wanted, known, n=3, cutoff=0.5)
    if not close and len(wanted) > 2:  # "emoji", "gigantic"
        close = [key for key in known if wanted in key][:3]
    hint = f" Did you mean {', '.join(known[key] for key in close)}?" if close else ""
    return CheckpointError(
        f"Unknown preset {name!r}.{hint} Expected a name (keras_pe.PECore.presets "
        f"lists them), an existing directory or file, hf://owner/repo[@revision] or "
        f"kaggle://owner/model/framework/variation[/version]."
    )
