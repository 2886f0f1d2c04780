"""Fine-tuning on one's own pairs of images and captions."""
