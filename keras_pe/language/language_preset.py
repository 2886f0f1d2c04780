"""Vision language models as presets: what is written beside the encoder's files.

The encoder's own files are those of `PELang.save_to_preset`, so that whoever wants the
encoder alone loads it as ever. Beside them, `language.json` says of what the rest is
made and `language.safetensors` holds its weights. A language model of KerasHub is not
written: it is large, and its owner's. What it was is noted, and who loads the preset
gives it.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from keras_pe.folder_reading import read_directory
from keras_pe.language.foreign import GGUF, HUB, foreign_decoder
from keras_pe.language.kerashub import KerasHubDecoder
from keras_pe.language.preset_description import (
    FOREIGN,
    FORMAT,
    PROJECTOR,
    SMALL,
    checked_description,
    weights_manifest,
)
from keras_pe.language.prompts import Prompt, QuestionPrompt
from keras_pe.language.small_decoder import SmallDecoder
from keras_pe.language.stored_prompt import described_prompt, load_prompt, write_words
from keras_pe.layers.projector import VisionProjector
from keras_pe.models.vision_encoder import PEVisionEncoder
from keras_pe.preprocessing.image import PEImageConverter
from keras_pe.presets.assign import build_unfilled, fill, rule
from keras_pe.presets.checksums import read_metadata, read_verified, verify_file
from keras_pe.presets.hub import LANGUAGE, LANGUAGE_WEIGHTS, known_preset, resolve
from keras_pe.presets.manifest import model_variables
from keras_pe.presets.open_checkpoint import SafetensorsFile
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.save import DTYPES, save_preset
from keras_pe.presets.serialized import POLICY_NAME
from keras_pe.presets.table import LANGUAGE_PARAMETERS
from keras_pe.presets.tensor_reader import SAFETENSORS_DTYPES

BLOCK_WEIGHTS = 12  # of a block without LayerScale


class LanguageParts(NamedTuple):
    """The parts of a `VisionLanguageModel`, in the order of its arguments."""

    encoder: Any
    projector: VisionProjector
    decoder: Any
    prompt: Prompt
    image_converter: PEImageConverter


# === Saving ===
def save_language_preset(
    model: Any,
    directory: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
    dtype: str | None = None,
    decoder_handle: str | None = None,
) -> None:
    """Writes a preset directory; see `VisionLanguageModel.save_to_preset`."""
    parts: dict[str, Any] = {"projector": model.projector}
    decoder = model.decoder
    if isinstance(decoder, SmallDecoder):
        decoder = decoder.merge_lora() if decoder.has_lora else decoder
        parts["decoder"] = decoder
    elif not isinstance(decoder, KerasHubDecoder):
        raise CheckpointError(
            f"A {type(decoder).__name__} can't be saved: expected a SmallDecoder, or a "
            f"KerasHubDecoder, which is noted and not written."
        )
    prompt = model.prompt
    described = {
        "format": FORMAT,
        "encoder_layers": model.encoder.num_layers,
        "projector": _described(model.projector, PROJECTOR),
        "decoder": _decoder_config(decoder, decoder_handle),
        "prompt": described_prompt(prompt),
    }
    text = json.dumps(described, indent=2, ensure_ascii=False, allow_nan=False)
    tensors = _stored(described, _variables(parts), dtype)

    def write(aside: Path) -> None:
        from safetensors.numpy import save_file

        (aside / LANGUAGE).write_text(text, encoding="utf-8")
        save_file(tensors, aside / LANGUAGE_WEIGHTS)
        write_words(prompt, aside)

    save_preset(
        model.encoder,
        directory,
        tokenizer=prompt.tokenizer if isinstance(prompt, QuestionPrompt) else None,
        image_converter=model.image_converter,
        metadata={**(metadata or {}), LANGUAGE_PARAMETERS: _count(tensors)},
        dtype=dtype,
        write_more=write,
    )


def _count(tensors: Mapping[str, np.ndarray]) -> int:
    return sum(tensor.size for tensor in tensors.values())


def _described(part: Any, names: tuple[str, ...]) -> dict[str, Any]:
    config = {**part.get_config(), "dtype": part.dtype_policy.name}
    return {name: config[name] for name in names}


def _decoder_config(decoder: Any, handle: str | None) -> dict[str, Any]:
    if isinstance(decoder, SmallDecoder):
        return {"kind": "SmallDecoder", **_described(decoder, SMALL)}
    return {
        "kind": "KerasHubDecoder",
        **_foreign(decoder),
        "handle": handle,
        "dtype": decoder.dtype_policy.variable_dtype,
        "weights_sha256": _weights_sha256(decoder),
    }


def _foreign(decoder: KerasHubDecoder) -> dict[str, Any]:
    """Returns what tells one language model of KerasHub from another."""
    backbone = decoder.backbone
    values = (
        type(backbone).__name__,
        decoder.hidden_dim,
        decoder.vocabulary_size,
        len(backbone.transformer_layers),
    )
    return dict(zip(FOREIGN, values, strict=True))


def _weights_sha256(decoder: KerasHubDecoder) -> str:
    """Returns a checksum of the values of all weights, as float32."""
    digest = hashlib.sha256()
    for variable in decoder.backbone.weights:
        array = keras.ops.convert_to_numpy(variable).astype("float32", copy=False)
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _variables(parts: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the weights of projector and decoder by their names in the file."""
    found = {}
    for part, owner in parts.items():
        if hasattr(owner, "towers"):
            named = model_variables(owner)
        else:
            inside = f"{owner.name}/"
            named = {
                variable.path[variable.path.index(inside) + len(inside) :]: variable
                for variable in owner.weights
            }
        found.update({f"{part}/{name}": value for name, value in named.items()})
    return found


def _stored(
    described: Mapping[str, Any], variables: Mapping[str, Any], dtype: str | None
) -> dict[str, np.ndarray]:
    """Returns the arrays of the file, or says why they can't be stored."""
    if dtype is not None and dtype not in DTYPES:
        raise CheckpointError(
            f"dtype={dtype!r}: expected one of {', '.join(DTYPES)} or None."
        )
    expected = weights_manifest(described)
    if set(expected) != set(variables):
        wrong = sorted(set(expected) ^ set(variables))
        raise CheckpointError(
            f"These are not the weights of a projector and a decoder as they are made: "
            f"{', '.join(wrong[:5])}. Save before calling quantize, and merge LoRA."
        )
    tensors = {}
    for name, variable in variables.items():
        own = keras.backend.standardize_dtype(variable.dtype)
        array = keras.ops.convert_to_numpy(variable)
        with np.errstate(over="ignore"):
            array = array.astype(np.dtype(dtype or own), copy=False)
        if not np.isfinite(array.astype("float32", copy=False)).all():
            raise CheckpointError(
                f"{name} has values that are NaN, infinite or beyond {dtype or own}. "
                f"Look at the training that gave them, or save as float32. Nothing was "
                f"written."
            )
        tensors[name] = np.ascontiguousarray(array)
    return tensors


# === Loading ===
def load_language_preset(
    handle: str | os.PathLike[str], decoder: Any = None, dtype: Any = None
) -> LanguageParts:
    """Returns the parts of a preset; see `VisionLanguageModel.from_preset`."""
    known = known_preset(handle)
    if known is not None and known.directory is None:  # nothing to download
        raise CheckpointError(_ENCODER_ALONE.format(handle=handle))
    location = resolve(handle)
    if location.directory is None:
        raise CheckpointError(_ENCODER_ALONE.format(handle=handle))
    return read_directory(
        location.directory,
        lambda directory: _load(directory, decoder, dtype),
        (CheckpointError, OSError),
    )


_ENCODER_ALONE = (
    "{handle} is an encoder alone, without a language model. Expected a preset that "
    "VisionLanguageModel.save_to_preset wrote; PEVisionEncoder.from_preset loads this "
    "one."
)


def _load(directory: Path, decoder: Any, dtype: Any) -> LanguageParts:
    policy = _policy(dtype)
    metadata = read_metadata(directory)
    if LANGUAGE not in metadata["files"]:
        raise CheckpointError(_ENCODER_ALONE.format(handle=directory))
    where = str(directory / LANGUAGE)
    described = checked_description(read_verified(directory, LANGUAGE, metadata), where)
    decoder = _given(described["decoder"], decoder, dtype)
    _check_given(described["decoder"], decoder, where)
    verify_file(directory, LANGUAGE_WEIGHTS, metadata)
    reader = SafetensorsFile(directory / LANGUAGE_WEIGHTS)
    try:
        _compare(described, reader, where)
        projector, small = _built(described, policy, where)
        parts = {"projector": projector, **({"decoder": small} if small else {})}
        rules = [rule(name, info.shape, name) for name, info in reader.tensors.items()]
        fill(reader, rules, _variables(parts), fresh=True)
    finally:
        reader.close()
    encoder = PEVisionEncoder.from_preset(directory, dtype=dtype)
    layers = described["encoder_layers"]
    if encoder.num_layers != layers:
        raise CheckpointError(
            f"{where} is of an encoder of {layers!r} blocks, and the one beside it has "
            f"{encoder.num_layers}. Save the preset again."
        )
    converter = PEImageConverter.from_preset(directory)
    vocabulary_size = described["decoder"]["vocabulary_size"]
    prompt = load_prompt(described["prompt"], vocabulary_size, directory, metadata)
    return LanguageParts(encoder, projector, small or decoder, prompt, converter)


def _compare(described: Mapping[str, Any], reader: SafetensorsFile, where: str) -> None:
    """Refuses weights that are not those of the description; nothing is built yet."""
    tensors = reader.tensors
    blocks = described["decoder"].get("num_layers", 0)
    small = described["decoder"]["kind"] == "SmallDecoder"
    if small and blocks * BLOCK_WEIGHTS > len(tensors):
        raise CheckpointError(
            f"{where} has a decoder of {blocks:,} blocks, and {LANGUAGE_WEIGHTS} has "
            f"{len(tensors):,} tensors, fewer than {BLOCK_WEIGHTS} a block."
        )
    expected, problems = weights_manifest(described), []
    for name in sorted(set(expected) | set(tensors)):
        if name not in tensors:
            problems.append(f"{name} is missing")
        elif name not in expected:
            problems.append(f"{name} belongs to no weight")
        elif tensors[name].shape != expected[name]:
            problems.append(f"{name} is {tensors[name].shape}, not {expected[name]}")
        elif tensors[name].dtype not in SAFETENSORS_DTYPES:
            problems.append(f"{name} is {tensors[name].dtype}, no floating point")
    if problems:
        more = f" and {len(problems) - 5} more" if len(problems) > 5 else ""
        raise CheckpointError(
            f"{reader.path} does not hold the weights of {LANGUAGE} beside it "
            f"({'; '.join(problems[:5])}{more}). Nothing was built. Save the preset "
            f"again."
        )


def _built(
    described: Mapping[str, Any], policy: Any, where: str
) -> tuple[VisionProjector, SmallDecoder | None]:
    projector, decoder = dict(described["projector"]), dict(described["decoder"])
    small = decoder.pop("kind") == "SmallDecoder"
    if policy is not None:
        projector["dtype"] = decoder["dtype"] = policy
    try:
        built = VisionProjector(**projector)
        make: Callable[[], SmallDecoder] = lambda: SmallDecoder(**decoder)  # noqa: E731
        return built, build_unfilled(make) if small else None
    except (ValueError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{where} describes no language model ({str(error).rstrip('.')})."
        ) from error


def _policy(dtype: Any) -> Any:
    """Returns the policy that the user wants, or None for the file's.

    Raises:
        CheckpointError: if it is none of floating point.
    """
    if dtype is not None:
        name = getattr(dtype, "name", dtype)
        if not isinstance(name, str) or not POLICY_NAME.fullmatch(name):
            raise CheckpointError(
                f"dtype={dtype!r}: expected a dtype or policy of floating point, such "
                f"as bfloat16 or mixed_bfloat16, or None."
            )
        return dtype
    policy = keras.config.dtype_policy()
    return None if policy.name == "float32" else policy


def _given(noted: Mapping[str, Any], decoder: Any, dtype: Any) -> Any:
    """Returns a language model that was given by its name, with the noted weights."""
    if not isinstance(decoder, str) or noted["kind"] == "SmallDecoder":
        return decoder
    stored = noted["dtype"] if noted["dtype"] in ("bfloat16", "float16") else None
    try:
        return foreign_decoder(decoder, dtype=_policy(dtype) or stored)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(f"decoder={decoder!r}: {error}") from error


def _check_given(noted: Mapping[str, Any], decoder: Any, where: str) -> None:
    """Refuses a language model that is missing, or another than it was trained with."""
    if noted["kind"] == "SmallDecoder":
        if decoder is not None:
            raise CheckpointError(
                f"{where} has a language model of its own. Leave out decoder=, which "
                f"is for those of KerasHub."
            )
        return
    wanted = {name: noted[name] for name in FOREIGN}
    said = f"a {noted['backbone']}, {noted['handle'] or 'of a name that is not noted'}"
    if not isinstance(decoder, KerasHubDecoder):
        raise CheckpointError(
            f"{where} was trained with a language model of KerasHub ({said}), which is "
            f"not in the preset. Pass decoder=, a KerasHubDecoder or its name, "
            f"{HUB}PRESET or {GGUF}FILE; the command line has --decoder."
        )
    found = _foreign(decoder)
    if found != wanted:
        raise CheckpointError(
            f"{where} was trained with {said}, {wanted}, and decoder has {found}."
        )
    if decoder.dtype_policy.variable_dtype != noted["dtype"]:
        warnings.warn(
            f"The language model is in {decoder.dtype_policy.variable_dtype}, and was "
            f"in {noted['dtype']}: whether it has the same weights was not compared.",
            stacklevel=6,
        )
    elif _weights_sha256(decoder) != noted["weights_sha256"]:
        raise CheckpointError(
            f"{where} was trained with {said}, and decoder has other weights: of "
            f"another release, or trained since. Answers would be of no worth."
        )
