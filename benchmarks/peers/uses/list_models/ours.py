import keras_pe

print(keras_pe.list_presets("core"))
