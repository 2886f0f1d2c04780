keras-pe export pe_core_emoji_patch8_64 --format onnx --output onnx
