"""A page to play with, in a browser, on this machine alone unless it is told otherwise.

What is computed (`naming`, `asking`, `maps`, `layers`, `searching`) needs no Gradio;
the page (`page`, `server`) does: `pip install "keras-pe[app]"`.
"""

from keras_pe.app.serving import serve
from keras_pe.app.settings import AppSettings, load_settings

__all__ = ["AppSettings", "load_settings", "serve"]
