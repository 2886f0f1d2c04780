"""The look at a data set's validation that comes before training."""

import logging
from collections.abc import Collection

from keras_pe.data.shard_files import expand_paths, open_shard_file
from keras_pe.data.validation import ANOMALIES_FILE, check_data, read_schema
from keras_pe.training.devices.distribution import host_position

_log = logging.getLogger(__name__)


def check_validation(
    data: str,
    results: str | None = None,
    allow_anomalies: bool | Collection[str] = False,
) -> None:
    """Refuses shards that did not pass `recipes/validate_data.py`.

    Args:
        data: pattern of the shards.
        results: where the results of the validation are; None for `validation` in the
            folder of the shards, where it is no error if there are none.
        allow_anomalies: True to train on data with anomalies all the same; or the names
            of features whose anomalies are accepted.

    Raises:
        DataValidationError: for anomalies, or if the results are of other shards.
    """
    paths = expand_paths(data)
    folder = results or _beside(paths[0])
    if results is None and not _exists(f"{folder}/{ANOMALIES_FILE}"):
        say = _log.info if host_position()[0] else _log.warning
        say(
            "No results of data validation in %s: training goes on without. To look at "
            "the data first: uv run recipes/validate_data.py '%s' --output %s",
            folder,
            data,
            folder,
        )
        return
    accepted = check_data(folder, paths, allow_anomalies)
    for anomaly in accepted:
        _log.warning("Accepted anomaly of the data: %s", anomaly)
    _log.info(
        "The data passed validation with a schema of %d features, %d anomalies "
        "accepted: %s",
        len(read_schema(folder).feature),
        len(accepted),
        folder,
    )


def _beside(path: str) -> str:
    """Returns `validation` in the folder of a shard."""
    folder = path.replace("\\", "/").rpartition("/")[0]
    return f"{folder}/validation" if folder or path.startswith("/") else "validation"


def _exists(path: str) -> bool:
    try:
        open_shard_file(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True
