"""What `language.json` of a preset says, and what it may not say."""

from collections.abc import Mapping
from typing import Any

from keras_pe.arrays import check_sizes
from keras_pe.language.chat_templates import CHATML, TEMPLATES
from keras_pe.language.prompts import check_spelled_questions
from keras_pe.presets.manifest import Manifest, block_manifest
from keras_pe.presets.report import CheckpointError
from keras_pe.presets.serialized import POLICY_NAME

FORMAT = 1
MOST_TOKENS = 65_536  # of a sequence, from a file: positions have a table
PROJECTOR = ("input_dim", "output_dim", "pooling", "merge", "depth", "norm", "dtype")
SMALL = (
    "vocabulary_size",
    "hidden_dim",
    "num_layers",
    "num_heads",
    "intermediate_dim",
    "max_length",
    "layer_scale",
    "drop_path",
    "remat",
    "dtype",
)
SMALL_SIZES = SMALL[:6]
FOREIGN = ("backbone", "hidden_dim", "vocabulary_size", "num_layers")
FOREIGN_NOTES = ("handle", "dtype", "weights_sha256")
PROMPTS = {
    "QuestionPrompt": ("image_tokens", "spell_answers", "spelled_questions"),
    "ChatPrompt": ("image_tokens", "system", "template"),
}
# What presets did not say before there was a choice.
FORMER: dict[str, dict[str, Any]] = {
    "ChatPrompt": {"template": CHATML.name},
    "QuestionPrompt": {"spelled_questions": []},
}


def checked_description(content: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Returns what a language.json says, or refuses it: all of it, and no more."""
    try:
        if content.get("format") != FORMAT:
            raise ValueError(f"format is {content.get('format')!r}, expected {FORMAT}")
        top = ("format", "encoder_layers", "projector", "decoder", "prompt")
        _check_keys("it", content, top)
        _check_keys("projector", content["projector"], PROJECTOR)
        prompt = content["prompt"]
        kind = prompt.get("kind") if isinstance(prompt, dict) else None
        if not isinstance(kind, str) or kind not in PROMPTS:
            raise ValueError(f"prompt is a {kind!r}, expected {' or '.join(PROMPTS)}")
        prompt = {**FORMER.get(kind, {}), **prompt}
        content = {**content, "prompt": prompt}
        _check_keys("prompt", prompt, ("kind", *PROMPTS[kind]))
        if not isinstance(prompt.get("spell_answers", False), bool):
            raise ValueError(
                f"spell_answers is {prompt['spell_answers']!r}, expected true or false"
            )
        spelled = prompt.get("spelled_questions", [])
        if not isinstance(spelled, list):
            raise ValueError(f"spelled_questions are {spelled!r:.80}, expected a list")
        check_spelled_questions(prompt.get("spell_answers", False), spelled)
        if not isinstance(prompt.get("system"), str | None):
            raise ValueError(f"system is {prompt['system']!r}, expected a text or null")
        template = prompt.get("template", CHATML.name)
        if not isinstance(template, str) or template not in TEMPLATES:
            raise ValueError(
                f"template is {template!r}, expected one of {', '.join(TEMPLATES)}"
            )
        decoder = content["decoder"]
        kinds: dict[str, tuple[str, ...]] = {
            "SmallDecoder": SMALL,
            "KerasHubDecoder": FOREIGN + FOREIGN_NOTES,
        }
        kind = decoder.get("kind") if isinstance(decoder, dict) else None
        if not isinstance(kind, str) or kind not in kinds:
            raise ValueError(f"decoder is a {kind!r}, expected {' or '.join(kinds)}")
        _check_keys("decoder", decoder, ("kind", *kinds[kind]))
        projector = content["projector"]
        check_sizes(
            encoder_layers=content["encoder_layers"],
            image_tokens=prompt["image_tokens"],
        )
        check_sizes(
            **{name: projector[name] for name in ("input_dim", "output_dim", "pooling")}
        )
        if not isinstance(projector["norm"], bool):
            raise ValueError(f"norm is {projector['norm']!r}, expected true or false")
        if kind == "SmallDecoder":
            check_sizes(**{name: decoder[name] for name in SMALL_SIZES})
            if decoder["max_length"] > MOST_TOKENS:
                raise ValueError(
                    f"max_length is {decoder['max_length']}, expected at most "
                    f"{MOST_TOKENS} from a file"
                )
            if not isinstance(decoder["remat"], bool):
                raise ValueError(f"remat is {decoder['remat']!r}")
            _check_policy(decoder["dtype"])
        _check_policy(projector["dtype"])
    except (ValueError, TypeError) as error:
        raise CheckpointError(
            f"{where} describes no language model ({str(error).rstrip('.')}). Nothing "
            f"was built. It may come from a newer keras_pe: update it, or save the "
            f"preset again."
        ) from error
    return dict(content)


def _check_keys(what: str, found: Any, expected: tuple[str, ...]) -> None:
    if not isinstance(found, dict) or set(found) != set(expected):
        listed = sorted(found) if isinstance(found, dict) else repr(found)[:80]
        raise ValueError(f"{what} has {listed}, expected {sorted(expected)}")


def _check_policy(name: Any) -> None:
    if not isinstance(name, str) or not POLICY_NAME.fullmatch(name):
        raise ValueError(f"dtype is {name!r}, expected a floating point policy")


# === The weights that it describes ===
def weights_manifest(described: Mapping[str, Any]) -> Manifest:
    """Returns the shapes of the file's tensors, from a checked description."""
    config = described["projector"]
    width = config["output_dim"]
    shuffled = config["pooling"] ** 2 if config["merge"] == "shuffle" else 1
    inside = config["input_dim"] * shuffled
    found: Manifest = {}
    if config["norm"]:
        found["projector/norm/gamma"] = (config["input_dim"],)
        found["projector/norm/beta"] = (config["input_dim"],)
    if config["depth"] == 2:
        found["projector/expand/kernel"] = (inside, width)
        found["projector/expand/bias"] = (width,)
        inside = width
    found["projector/contract/kernel"] = (inside, width)
    found["projector/contract/bias"] = (width,)
    decoder = described["decoder"]
    if decoder["kind"] == "SmallDecoder":
        hidden = decoder["hidden_dim"]
        weights: Manifest = {
            "token_embedding/embeddings": (decoder["vocabulary_size"], hidden),
            **block_manifest(decoder),
            "norm/gamma": (hidden,),
            "norm/beta": (hidden,),
        }
        found.update({f"decoder/{name}": shape for name, shape in weights.items()})
    return found
