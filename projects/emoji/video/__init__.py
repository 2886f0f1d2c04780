"""Video fine-tuning of the bundled model on animated artwork, in small."""
