keras-pe index pictures --output pictures.index --preset pe_core_emoji_patch8_64
keras-pe search pictures.index --text "an owl" --top-k 3
