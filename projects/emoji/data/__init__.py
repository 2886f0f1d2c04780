"""Open emoji drawings of several vendors as an image-text data set.

Run ``python -m projects.emoji.data.prepare --output DIR`` to build the shards,
then read them with :func:`projects.emoji.data.shards.load_arrays`. Sources and
licences are listed in ``ATTRIBUTION.md`` beside this file.
"""
