"""Starting the page, which needs Gradio."""

import importlib.util

from keras_pe.app.settings import AppSettings, load_settings

GRADIO_MISSING = (
    'The page is made by Gradio, which is missing: pip install "keras-pe[app]".'
)


def check_gradio() -> None:
    """Raises ImportError unless Gradio is installed."""
    if importlib.util.find_spec("gradio") is None:
        raise ImportError(GRADIO_MISSING)


def serve(
    settings: AppSettings | None = None,
    host: str | None = None,
    port: int | None = None,
) -> None:
    """Shows the page until it is stopped.

    Nothing is fetched from the network, nothing is reported to anybody, and no public
    link is made.

    Args:
        settings: from `load_settings`; None for the preset in the package.
        host: address to listen at; None takes GRADIO_SERVER_NAME, else 127.0.0.1,
            which only this machine reaches.
        port: None takes GRADIO_SERVER_PORT, else the first free one from 7860 on.

    Raises:
        ValueError: if there is no such port.
        ImportError: if Gradio is missing.
        OSError: if the port is taken.

    Example:
        >>> serve(load_settings(), port=8000)                       # doctest: +SKIP
        >>> serve(port=80000)
        Traceback (most recent call last):
        ValueError: port=80000: expected a whole number from 1 to 65535.
    """
    if port is not None and not (isinstance(port, int) and 1 <= port <= 65535):
        raise ValueError(f"port={port!r}: expected a whole number from 1 to 65535.")
    check_gradio()
    from keras_pe.app.server import launch

    launch(settings or load_settings(), host, port)
