"""The page of `keras-pe app`, as a Space on Hugging Face: uploads alone are read."""

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

from keras_pe.app import load_settings, serve

serve(load_settings(os.environ.get("KERAS_PE_PRESET")))
