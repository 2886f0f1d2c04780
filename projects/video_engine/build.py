"""Which stages the command line asks for."""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from keras_pe.data_engine import (
    Captioner,
    ChatEndpoint,
    Choose,
    DecoderLanguageModel,
    Embed,
    EndpointCaptioner,
    Engine,
    FrameCaptions,
    JoinedCaption,
    Limits,
    ModelCaptioner,
    Probe,
    RefinedCaption,
    Row,
    Stage,
    Summary,
    VideoCaption,
    read_edits,
)

LIMITS = ("failed", "same_caption", "repeated", "matched")
PARTS = ("metadata", "video", "frames")
QUESTION, MAX_TOKENS = "What is this?", 32  # of a captioner


def add_engine_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what says which stages there are, and how strict the receipt is."""
    who = parser.add_argument_group("who describes")
    who.add_argument("--captioner", help="preset of a VisionLanguageModel")
    who.add_argument(
        "--captioner-decoder", help="its hub:... or gguf:..., if it has one"
    )
    who.add_argument(
        "--question", help=f"what the captioner is asked (default: {QUESTION})"
    )
    who.add_argument("--num-frames", type=int, default=8, help="of a clip")
    who.add_argument(
        "--max-tokens",
        type=int,
        help=f"of a caption, by the captioner (default: {MAX_TOKENS})",
    )
    who.add_argument("--decoder", help="hub:... or gguf:..., which summarises")
    who.add_argument("--endpoint", help="http://.../v1, which summarises")
    who.add_argument("--endpoint-model", help="what the server calls its model")
    who.add_argument("--endpoint-key", help="environment variable that holds the key")
    who.add_argument("--words", type=int, default=60, help="of a summary, about")
    who.add_argument(
        "--parts", nargs="+", choices=PARTS, default=PARTS, help="what is summarised"
    )
    who.add_argument(
        "--metadata",
        nargs="+",
        metavar="KEY",
        help="of the metadata, in this order; default: all",
    )
    who.add_argument(
        "--edits", help="JSON lines that projects.video_engine.refine writes"
    )
    which = parser.add_argument_group("which clips")
    which.add_argument(
        "--embed",
        default="pe_core_emoji_patch8_64",
        help='preset that clips are compared by; "" for none',
    )
    which.add_argument("--choose", type=int, metavar="K", help="kinds of clips")
    which.add_argument("--best", type=int, metavar="N", help="clips that stay of each")
    which.add_argument("--by", default="motion", help="number that says which")
    parser.add_argument(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=SHARE",
        help=f"of the receipt: {', '.join(LIMITS)}; NAME=none for no limit",
    )


def engine_of(settings: argparse.Namespace) -> Engine:
    """Returns the engine of a command line.

    Raises:
        ValueError: if options are missing or do not go together.
    """
    if (settings.choose is None) != (settings.best is None):
        raise ValueError("--choose K and --best N go together.")
    if settings.choose is not None and not settings.embed:
        raise ValueError("--choose needs --embed: kinds are those of embeddings.")
    endpoint = _endpoint(settings)
    captioner = _captioner(settings, endpoint)
    stages: list[Stage] = [Probe(settings.num_frames)]
    if settings.embed:
        stages.append(Embed(settings.embed, settings.num_frames))
    choose = None
    if settings.choose is not None:
        choose = Choose(settings.choose, settings.best, settings.by)
    then: list[Stage] = [
        VideoCaption(captioner),
        RefinedCaption(_edits(settings)),
    ]
    if "frames" in settings.parts:
        then.append(FrameCaptions(captioner))
    return Engine(stages, choose, [*then, _last(settings, endpoint)])


def check_metadata(keys: Sequence[str] | None, rows: Sequence[Row]) -> None:
    """Refuses a key that no clip has: captions would lack it, and nobody be told.

    Raises:
        ValueError: naming it, and those that there are.
    """
    there = Counter(key for row in rows for key in row["metadata"])
    unknown = [key for key in keys or () if key not in there]
    if unknown:
        most = ", ".join(key for key, _ in there.most_common(10))
        expected = f"some of {most}" if most else "owl.json beside owl.mp4, an object"
        raise ValueError(
            f"--metadata {' '.join(map(repr, unknown))}: no clip has such metadata; "
            f"expected {expected}."
        )


def limits_of(settings: argparse.Namespace) -> Limits:
    """Returns the limits of a command line.

    Raises:
        ValueError: if one is unknown or no share.
    """
    found: dict[str, Any] = {}
    for given in settings.limit:
        name, _, value = given.partition("=")
        try:
            found[name] = None if value == "none" else float(value)
        except ValueError:
            name = ""
        if name not in LIMITS:
            raise ValueError(
                f"--limit {given}: expected NAME=SHARE, NAME one of "
                f"{', '.join(LIMITS)}, SHARE from 0 to 1 or none."
            )
    return Limits(**found)


def _edits(settings: argparse.Namespace) -> dict[str, str | None]:
    if not settings.edits:
        return {}
    if not Path(settings.edits).exists():
        raise ValueError(
            f"--edits {settings.edits}: no such file. projects.video_engine.refine "
            f"writes one; leave the option out as long as nobody has edited."
        )
    return read_edits(settings.edits)


def _endpoint(settings: argparse.Namespace) -> ChatEndpoint | None:
    if not settings.endpoint:
        return None
    if not settings.endpoint_model:
        raise ValueError("--endpoint needs --endpoint-model: its name on the server.")
    if settings.decoder:
        raise ValueError("--decoder and --endpoint: one of them summarises.")
    return ChatEndpoint(
        settings.endpoint, settings.endpoint_model, settings.endpoint_key
    )


def _captioner(
    settings: argparse.Namespace, endpoint: ChatEndpoint | None
) -> Captioner:
    if settings.captioner:
        return ModelCaptioner(
            settings.captioner,
            settings.captioner_decoder,
            QUESTION if settings.question is None else settings.question,
            settings.num_frames,
            MAX_TOKENS if settings.max_tokens is None else settings.max_tokens,
        )
    if endpoint is None:
        raise ValueError("Who describes the clips? Give --captioner or --endpoint.")
    for name in ("captioner_decoder", "question", "max_tokens"):
        if getattr(settings, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} goes with --captioner: an endpoint that "
                f"describes clips is asked in words of its own."
            )
    return EndpointCaptioner(endpoint, num_frames=settings.num_frames)


def _last(settings: argparse.Namespace, endpoint: ChatEndpoint | None) -> Stage:
    """Returns the stage that gives the caption."""
    if endpoint is not None:
        return Summary(endpoint, settings.words, settings.parts, settings.metadata)
    if settings.decoder:
        model = DecoderLanguageModel(settings.decoder, max_tokens=2 * settings.words)
        return Summary(model, settings.words, settings.parts, settings.metadata)
    return JoinedCaption(settings.parts, settings.metadata)
