"""What data validation found, read before training starts.

`recipes/validate_data.py` runs TensorFlow Data Validation in an environment of its own
and writes a folder of results; this side needs only `tensorflow-metadata`.
"""

import json
import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from keras_pe.data.shard_files import Paths, expand_paths, open_shard_file

ANOMALIES_FILE, SCHEMA_FILE, DATA_FILE = "anomalies.pbtxt", "schema.pbtxt", "data.json"
FORMAT_VERSION = 1
# Of a mismatch with many shards, this many names are enough to find the cause.
NUM_NAMED = 5

Fingerprint = Counter[tuple[str, int]]
Directory = str | os.PathLike[str]


class DataValidationError(ValueError):
    """The data have anomalies, or the results are missing or of other data."""


@dataclass(frozen=True)
class Anomaly:
    """One thing that validation found wrong.

    Args:
        feature: what it is about; "" for the data set as a whole.
        short_description: in a few words.
        description: with numbers.
        severity: "ERROR", "WARNING" or "UNKNOWN".

    Example:
        >>> print(Anomaly("caption_empty", "Too many blank", "5 of 9 are blank."))
        caption_empty: Too many blank. 5 of 9 are blank.
    """

    feature: str
    short_description: str
    description: str
    severity: str = "ERROR"

    def __str__(self) -> str:
        parts = (self.short_description, self.description)
        words = ". ".join(part.strip().rstrip(".") for part in parts if part.strip())
        return f"{self.feature or 'the whole data set'}: {words}."


def check_data(
    directory: Directory,
    shards: Paths | Mapping[str, int] | None = None,
    allow_anomalies: bool | Collection[str] = False,
) -> tuple[Anomaly, ...]:
    """Stops a training run whose data did not pass validation.

    Args:
        directory: what `recipes/validate_data.py --output` wrote: a folder or URL.
        shards: the shards that training reads, as paths or as name to bytes. They
            have to be those that were validated. `None` does not compare.
        allow_anomalies: True to train all the same; or names of features whose
            anomalies are known and accepted.

    Returns:
        The anomalies that were allowed; empty for sound data.

    Raises:
        DataValidationError: for anomalies that are not allowed, and for results that
            are missing, unfinished or of other shards.
        ImportError: without `tensorflow-metadata`.

    Example:
        >>> check_data("runs/validation", "data/train-*.tar")     # doctest: +SKIP
        ()
    """
    if isinstance(allow_anomalies, str):
        raise ValueError(
            f"allow_anomalies={allow_anomalies!r}: expected True, False or a list of "
            "feature names."
        )
    anomalies = read_anomalies(directory)
    if shards is not None:
        _compare(directory, validated_shards(directory), fingerprint(shards))
    if allow_anomalies is True:
        return anomalies
    allowed = allow_anomalies or ()
    refused = [found for found in anomalies if found.feature not in allowed]
    if refused:
        lines = "\n".join(f"  * {anomaly}" for anomaly in refused)
        raise DataValidationError(
            f"Validation of the data found {len(refused)} anomalies:\n{lines}\n"
            f"{directory}/report.md names samples. Repair the data and validate again, "
            "or train all the same with allow_anomalies=True, or with the names of "
            "those you accept."
        )
    return anomalies


def read_anomalies(directory: Directory) -> tuple[Anomaly, ...]:
    """Reads what validation found.

    Args:
        directory: what `recipes/validate_data.py --output` wrote: a folder or URL.

    Returns:
        The anomalies, sorted by feature; empty for sound data.

    Raises:
        DataValidationError: if there are no results or they can't be read.
        ImportError: without `tensorflow-metadata`.

    Example:
        >>> for anomaly in read_anomalies("runs/validation"):     # doctest: +SKIP
        ...     print(anomaly.feature, anomaly.short_description)
        image_repeated Too many images that repeat an earlier one
    """
    anomalies_pb2, _ = _protos()
    message = _parse(directory, ANOMALIES_FILE, anomalies_pb2.Anomalies())
    found = [
        _from_proto(name, info) for name, info in sorted(message.anomaly_info.items())
    ]
    if message.HasField("dataset_anomaly_info"):
        found.append(_from_proto("", message.dataset_anomaly_info))
    if message.data_missing:
        found.append(Anomaly("", "No data", "There is not a single sample."))
    return tuple(found)


def read_schema(directory: Directory) -> Any:
    """Reads the schema that the data were held to.

    Args:
        directory: what `recipes/validate_data.py --output` wrote: a folder or URL.

    Returns:
        A `tensorflow_metadata.proto.v0.schema_pb2.Schema`.

    Raises:
        DataValidationError: if there is none or it can't be read.
        ImportError: without `tensorflow-metadata`.

    Example:
        >>> schema = read_schema("runs/validation")               # doctest: +SKIP
        >>> [feature.name for feature in schema.feature][:2]      # doctest: +SKIP
        ['caption_characters', 'caption_empty']
    """
    _, schema_pb2 = _protos()
    return _parse(directory, SCHEMA_FILE, schema_pb2.Schema())


def fingerprint(shards: Paths | Mapping[str, int]) -> Fingerprint:
    """Tells shards apart without reading them: by name and size.

    Folders do not count, so that a copy elsewhere is the same data.

    Args:
        shards: paths, patterns and URLs as in `expand_paths`, or name to bytes.

    Returns:
        How often each (file name, bytes) comes.

    Example:
        >>> fingerprint({"train-00000.tar": 6041600})
        Counter({('train-00000.tar', 6041600): 1})
    """
    if not isinstance(shards, Mapping):
        paths = expand_paths(shards)
        return Counter((_name(path), open_shard_file(path).size) for path in paths)
    return Counter((_name(path), int(size)) for path, size in shards.items())


def validated_shards(directory: Directory) -> Fingerprint:
    """Reads which shards were validated.

    Args:
        directory: what `recipes/validate_data.py --output` wrote: a folder or URL.

    Returns:
        How often each (file name, bytes) comes.

    Raises:
        DataValidationError: if the results don't say.

    Example:
        >>> validated_shards("runs/validation")                   # doctest: +SKIP
        Counter({('train-00000.tar', 6041600): 1})
    """
    content = _read(directory, DATA_FILE)
    try:
        data = json.loads(content)
        version = data["format_version"]
        shards = Counter((str(s["name"]), int(s["bytes"])) for s in data["shards"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataValidationError(
            f"{directory}/{DATA_FILE} can't be read ({type(error).__name__}: {error}). "
            "Validate the data again."
        ) from error
    if version != FORMAT_VERSION:
        raise DataValidationError(
            f"{directory}/{DATA_FILE} has format {version!r}; expected "
            f"{FORMAT_VERSION}. Validate the data again with this version's recipe."
        )
    return shards


def _compare(directory: Directory, validated: Fingerprint, used: Fingerprint) -> None:
    if validated == used:
        return
    unknown, unused = used - validated, validated - used
    sizes = dict(unused.keys())
    changed = [
        f"{name} ({sizes[name]:,} bytes validated, {size:,} now)"
        for name, size in unknown
        if name in sizes
    ]
    known = {name for name, _ in unknown}
    new = [name for name, _ in unknown.elements() if name not in sizes]
    gone = [name for name, _ in unused.elements() if name not in known]
    problems = [
        f"{len(names)} {what}: {_list(names)}"
        for what, names in (
            ("of another size", changed),
            ("never validated", new),
            ("validated but not used", gone),
        )
        if names
    ]
    raise DataValidationError(
        f"The results in {directory} belong to other data. Of {used.total()} shards "
        f"for training and {validated.total()} validated, " + "; ".join(problems) + ". "
        "Validate exactly the shards that training reads."
    )


def _list(names: Collection[str]) -> str:
    shown = ", ".join(sorted(names)[:NUM_NAMED])
    return shown + (", ..." if len(names) > NUM_NAMED else "")


def _from_proto(feature: str, info: Any) -> Anomaly:
    severity = info.Severity.Name(info.severity)
    return Anomaly(feature, info.short_description, info.description, severity)


def _parse(directory: Directory, name: str, message: Any) -> Any:
    from google.protobuf import text_format

    content = _read(directory, name)
    try:
        # A newer TFDV may write fields that this tensorflow-metadata has not heard of.
        return text_format.Parse(content, message, allow_unknown_field=True)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise DataValidationError(
            f"{directory}/{name} is no {type(message).__name__} in text form "
            f"({error}). Validate the data again."
        ) from error


def _read(directory: Directory, name: str) -> bytes:
    path = f"{os.fspath(directory).rstrip('/')}/{name}"
    try:
        file = open_shard_file(path)
    except FileNotFoundError:
        raise DataValidationError(
            f"No {name} in {directory}: data validation has not run, or has not "
            f"finished. Run `recipes/validate_data.py SHARDS --output {directory}`."
        ) from None
    return file.read(0, file.size)


def _name(path: str) -> str:
    return path.replace("\\", "/").rpartition("/")[2]


def _protos() -> tuple[Any, Any]:
    try:
        from tensorflow_metadata.proto.v0 import anomalies_pb2, schema_pb2
    except ImportError as error:
        raise ImportError(
            "Reading validation results needs tensorflow-metadata: "
            "pip install 'keras-pe[train]'"
        ) from error
    return anomalies_pb2, schema_pb2
