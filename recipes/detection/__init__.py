"""Object detectors on Perception Encoder."""
