"""The video stage: cool-down on images, then fine-tuning on clips."""
