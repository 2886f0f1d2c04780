"""Questions about images, as shards to align an encoder with a language decoder by."""
