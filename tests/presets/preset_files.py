"""Editing a preset directory as an attacker or an accident would."""

import json

from keras_pe.presets import checksums


def resign(directory, **changes):
    """Writes files anew with checksums that agree: what an attacker would do."""
    for name, config in changes.items():
        (directory / f"{name}.json").write_text(json.dumps(config))
    content = json.loads((directory / "metadata.json").read_text())
    (directory / "metadata.json").unlink()
    del content["files"], content["metadata_sha256"]
    checksums.write_metadata(directory, content)


def config_of(directory, name="config"):
    return json.loads((directory / f"{name}.json").read_text())
