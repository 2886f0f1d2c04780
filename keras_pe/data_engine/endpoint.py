"""A model behind an address: the chat completions that many servers speak.

vLLM, llama.cpp, Ollama and hosted models answer `POST .../chat/completions`. Nothing
but the standard library is needed.
"""

import base64
import http.client
import io
import json
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from keras_pe.arrays import check_sizes
from keras_pe.data_engine.captioners import pixels
from keras_pe.data_engine.stage import StageFailure, check_number
from keras_pe.preprocessing.video import PEVideoConverter

NO_ANSWER, REFUSED, ODD = (
    "the endpoint did not answer",
    "the endpoint refused",
    "the endpoint's answer is none",
)
_AGAIN = (408, 425, 429, 500, 502, 503, 504)  # may pass if one waits
_LARGEST = 1 << 20  # bytes of an answer
_PIECE = 1 << 16  # bytes that are read at a time
HIDDEN = "***"  # what stands for the key in errors and answers


class ChatEndpoint:
    """A language model that is asked over HTTP, as `LanguageModel` says.

    Answers are asked for at temperature 0, and are kept in the ledger. Whether a server
    would give the same again is its affair.

    Args:
        url: such as "http://localhost:8000/v1"; "/chat/completions" is added.
        model: what the server calls it.
        key_variable: name of the environment variable that holds the key, if one is
            needed. The key itself is never stored, nor part of any settings; a server
            that repeats it is not quoted. It is sent to no other address: redirects
            are refused.
        max_tokens: most tokens of an answer.
        timeout: seconds that one try may take.
        tries: how often it is asked before the row fails; waits double from `wait`.
        wait: seconds before the second try.

    Raises:
        ValueError: if the address is none, or a number makes no sense.

    Example:
        >>> ChatEndpoint("http://localhost:8000/v1", "llama").address
        'http://localhost:8000/v1/chat/completions'
    """

    def __init__(
        self,
        url: str,
        model: str,
        key_variable: str | None = None,
        max_tokens: int = 160,
        timeout: float = 60.0,
        tries: int = 4,
        wait: float = 1.0,
    ) -> None:
        check_url(url)
        check_sizes(max_tokens=max_tokens, tries=tries)
        check_number("timeout", timeout, 1e-3)
        check_number("wait", wait)
        self.address = f"{url.rstrip('/')}/chat/completions"
        self.model, self.key_variable = model, key_variable
        self.max_tokens, self.timeout = max_tokens, timeout
        self.tries, self.wait = tries, wait

    def settings(self) -> Mapping[str, Any]:
        """Returns the model's name and how long an answer may be; not the address."""
        return {"endpoint": self.model, "max_tokens": self.max_tokens}

    def load(self) -> Any:
        """Returns nothing, after a look whether the key is there.

        Raises:
            ValueError: if it is not: no clip would fare better.
        """
        self._key()

    def answer(self, loaded: Any, text: str) -> str:
        """Returns the answer to a text."""
        return self.ask(text)

    def ask(self, text: str, images: Sequence[np.ndarray] = ()) -> str:
        """Returns the answer to a text and images.

        Args:
            text: what is asked.
            images: each uint8 `(height, width, 3)`; sent as PNG.

        Raises:
            StageFailure: if there is no answer. Those that another try may mend are not
                lasting.
        """
        content: Any = text
        if images:
            content = [{"type": "text", "text": text}, *map(_image, images)]
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": self.max_tokens,
        }
        key = self._key()
        headers = {"Content-Type": "application/json"}
        if key:
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(
            self.address, json.dumps(body).encode(), headers
        )
        try:
            return _without(self._asked(request), key)
        except StageFailure as failure:
            detail = _without(failure.detail, key)[:300]
            raise StageFailure(failure.reason, detail, lasting=False) from None

    def _asked(self, request: urllib.request.Request) -> str:
        """Returns the first answer of `tries`."""
        failure = StageFailure(NO_ANSWER)
        for again in range(self.tries):
            if again:
                time.sleep(self.wait * 2 ** (again - 1))
            ends = time.monotonic() + self.timeout
            try:
                with _opener.open(request, timeout=self.timeout) as answer:
                    return _text(_read(answer, ends))
            except urllib.error.HTTPError as error:
                with error:
                    said = error.read(_PIECE).decode(errors="replace")
                failure = StageFailure(REFUSED, f"{error.code}: {said}")
                if error.code not in _AGAIN:
                    break
            except (OSError, ValueError, http.client.HTTPException) as error:
                detail = f"{self.address}: {type(error).__name__}: {error}"
                failure = StageFailure(NO_ANSWER, detail)
        raise failure

    def _key(self) -> str:
        if self.key_variable is None:
            return ""
        key = os.environ.get(self.key_variable, "").strip()
        if not key or not key.isascii() or not key.isprintable():
            raise ValueError(
                f"The environment variable {self.key_variable} is "
                f"{'no key' if key else 'not set'}: it is to hold the key of "
                f"{self.address}, printable and on one line."
            )
        return key


class EndpointCaptioner:
    """A vision-language model behind an address, as `Captioner` says.

    Args:
        endpoint: that is asked.
        question: about a frame.
        video_question: about all frames, which are sent together, in their order.
        image_size: side of the frames in pixels, or (height, width).
        num_frames: frames of a clip.

    Example:
        >>> endpoint = ChatEndpoint("http://localhost:8000/v1", "llava")
        >>> EndpointCaptioner(endpoint, num_frames=4).converter.num_frames
        4
    """

    def __init__(
        self,
        endpoint: ChatEndpoint,
        question: str = "Describe this image in one sentence.",
        video_question: str = "These are frames of one video, in order. Describe what "
        "happens in one sentence.",
        image_size: int | Sequence[int] = 336,
        num_frames: int = 8,
    ) -> None:
        self.endpoint = endpoint
        self.question, self.video_question = question, video_question
        self.converter = PEVideoConverter(
            image_size=image_size, num_frames=num_frames, resize_mode="center_crop"
        )

    def settings(self) -> Mapping[str, Any]:
        """Returns the model's name, the questions and the frames."""
        return {
            **self.endpoint.settings(),
            "questions": [self.question, self.video_question],
            "frames": self.converter.get_config(),
        }

    def load(self) -> Any:
        """Returns nothing, see `ChatEndpoint.load`."""
        self.endpoint.load()

    def of_video(self, loaded: Any, frames: np.ndarray) -> str:
        """Returns what it says of all frames together."""
        return self.endpoint.ask(self.video_question, list(pixels(frames)))

    def of_frames(self, loaded: Any, frames: np.ndarray) -> Sequence[str]:
        """Returns what it says of each."""
        return [self.endpoint.ask(self.question, [one]) for one in pixels(frames)]


def check_url(url: Any) -> None:
    """Refuses what is no address, or holds a key: addresses are part of errors.

    Raises:
        ValueError: if so.

    Example:
        >>> check_url("http://me:secret@localhost/v1")
        Traceback (most recent call last):
        ValueError: The address holds a user or a query: expected such as \
http://localhost:8000/v1, and a key in an environment variable.
    """
    try:
        parts = urllib.parse.urlsplit(url if isinstance(url, str) else "")
        sound = parts.scheme in ("http", "https") and bool(parts.hostname)
        _ = parts.port
    except ValueError:
        sound = False
    if not sound or not url.isprintable() or " " in url:
        shown = "..." if set("@?") & set(str(url)) else repr(url)[:80]  # no passwords
        raise ValueError(f"url={shown}: expected http://... or https://...")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError(
            "The address holds a user or a query: expected such as "
            "http://localhost:8000/v1, and a key in an environment variable."
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves a redirect an error: the key is meant for one address."""

    def redirect_request(self, *_: Any) -> None:
        return None


_opener = urllib.request.build_opener(_NoRedirects())


def _read(answer: Any, ends: float) -> bytes:
    """Returns an answer, unless it takes longer in all, or is too large."""
    found = b""
    while piece := answer.read1(_PIECE):
        found += piece
        if len(found) > _LARGEST:
            raise StageFailure(ODD, f"More than {_LARGEST:,} bytes.")
        if time.monotonic() > ends:
            raise TimeoutError("the answer did not end")
    return found


def _without(text: str, key: str) -> str:
    return text.replace(key, HIDDEN) if key else text


def _image(image: np.ndarray) -> dict[str, Any]:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{data}"}}


def _text(answer: bytes) -> str:
    """Returns the text of an answer."""
    try:
        text = json.loads(answer)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        said = answer[:_PIECE].decode(errors="replace")
        raise StageFailure(ODD, f"Expected choices, got {said}") from None
    if not isinstance(text, str):
        raise StageFailure(ODD, f"Expected text, got {text!r:.80}")
    return text
