"""Notebooks of a newcomer's path, generated from `sources/` by `build.py`."""
