# extras: probe
# backends: torch
# %% [markdown]
# # See inside: what the model sees, and where
#
# The encoder cuts a picture into patches, and carries a vector for each of them through its blocks. Four ways to look at
# these vectors, none of which trains anything:
#
# * **PCA maps**: which patches are alike to the model, as colours.
# * **Similarity**: what resembles one patch that you point at.
# * **Text maps**: which patches speak for a text.
# * **Attention**: where each head looks.

# %%
PRESET = "pe_core_emoji_patch8_64"  # for photographs: "PE-Core-B16-224", 1.8 GB

# %% [markdown]
# ## Pictures
# Four drawings on a picture, twice as large as the model was trained with: more patches, finer maps. Any size in whole
# patches will do.

# %%
from pathlib import Path

import numpy as np
from IPython.display import display
from PIL import Image

import keras_pe
from keras_pe import visualization as see

model = keras_pe.PECore.from_preset(PRESET)
tokenizer = keras_pe.PETokenizer.from_preset(PRESET)
encoder = model.vision_encoder

groups = [
    ["animal/owl", "plant/cactus", "food/watermelon", "thing/violin"],
    ["transport/bus", "animal/penguin", "thing/drum", "plant/sunflower"],
    ["clothing/crown", "food/taco", "animal/crab", "transport/sailboat"],
]
side = 2 * encoder.image_size
pictures = []
for group in groups:
    canvas = Image.new("RGB", (side, side), "white")
    for place, name in enumerate(group):
        drawing = Image.open(Path("drawings") / f"{name}.png").convert("RGBA")
        drawing = drawing.resize(
            (side // 2 - 8, side // 2 - 8), Image.Resampling.LANCZOS
        )
        corner = (place % 2 * side // 2 + 4, place // 2 * side // 2 + 4)
        canvas.paste(drawing, corner, drawing)
    pictures.append(canvas)
images = keras_pe.PEImageConverter(image_size=side)(pictures)  # from -1 to 1
print(images.shape, "in patches of", encoder.patch_size)

# %% [markdown]
# ## Which patches are alike
# The three main directions of all patches become lightness, saturation and hue. One colour, one kind of patch, to the
# model. The layers differ: early ones see colours and edges, late ones things.

# %%
layers = list(range(0, encoder.num_layers + 1, max(1, encoder.num_layers // 3)))
features = encoder.features(images, layers=layers)
see.layer_figure(images, [see.pca_map(one) for one in features], layers)

# %% [markdown]
# ## What resembles this patch
# Point at a patch of the first picture: how similar are all others, of all pictures? Bright is similar.

# %%
middle = encoder.features(images, layers=layers[-2])
rows, columns = middle.grid
point = (rows // 4, columns // 4)  # in the middle of the first drawing
similar = see.similarity_map(middle, *point, image=0)
see.similarity_figure(images, similar, point, image=0)

# %% [markdown]
# ## Where a text is
# The embedding of a picture is a weighted sum of what its patches bring. `text_score_maps` splits the similarity of picture
# and text among the patches: bright patches speak for the text. `contrast="mean"` leaves what speaks for this text rather
# than for the others.

# %%
for number in range(2):
    texts = [name.split("/")[1] for name in groups[number]]
    vectors = model.encode_text(tokenizer(texts))
    maps = see.text_score_maps(
        model, images[number : number + 1], vectors, contrast="mean"
    )
    display(see.text_score_figure(images[number : number + 1], maps, texts))

# %% [markdown]
# How often does the brightest patch lie on the drawing that was named? A patch at random would hit the right quarter one
# time in four.

# %%
hits = []
for number, group in enumerate(groups):
    vectors = model.encode_text(tokenizer([name.split("/")[1] for name in group]))
    (maps,) = see.text_score_maps(
        model, images[number : number + 1], vectors, contrast="mean"
    )
    for place, heat in enumerate(maps):
        row, column = np.unravel_index(heat.argmax(), heat.shape)
        quarter = 2 * (2 * row // heat.shape[0]) + 2 * column // heat.shape[1]
        hits.append(quarter == place)
print(f"{sum(hits)} of {len(hits)} names are brightest in their own quarter")

# %% [markdown]
# The maps are no trick beside the model: they add up to the similarity, but for the parts of the class token and of the
# biases, which have no place in the picture.

# %%
vectors = np.asarray(model.encode_text(tokenizer(["owl"])))
maps = see.text_score_maps(model, images[:1], vectors)
parts = see.contributions(encoder, images[:1])
whole = float(np.asarray(model.encode_image(images[:1]))[0] @ vectors[0])
print(f"sum of the map {maps.sum():+.4f}, similarity {whole:+.4f}")
total = float(parts.total()[0] @ vectors[0])
print(f"with class token and biases {total:+.4f}")
assert abs(total - whole) < 1e-3

# %% [markdown]
# ## Where the heads look
# The pooling at the end reads all patches by attention, each head in its own way. Titles give the largest weight.

# %%
pooling = see.pooling_attention(encoder, images[1:2])
see.attention_figure(images[1:2], pooling.patches)

# %% [markdown]
# Inside a block every patch attends to every other. From the patch above, in the middle layer:

# %%
layer = encoder.num_layers // 2
weights = np.asarray(see.attention_maps(encoder, images[:1], layer))
start = weights.shape[-1] - rows * columns  # what stands before the patches
looks = weights[:, :, start + point[0] * columns + point[1], start:]
looks = looks.reshape(*looks.shape[:2], rows, columns)
see.attention_figure(images[:1], looks, point, titles=[f"layer {layer}"])

# %% [markdown]
# Attention says from where a vector is put together, not what it means: trust the text maps, which are computed from the
# answer, for "why did it say owl".
#
# ## Where to go on
# * [Visualisation](https://github.com/keras-pe/keras_pe/blob/main/docs/visualization.md), and the same from the command line:
#   `keras-pe visualize photo.png --kind text --text "a cat" "a dog"`.
# * [Which layer](03_which_layer.ipynb): the same differences between layers, in numbers.
# * [Alignment](https://github.com/keras-pe/keras_pe/blob/main/docs/alignment.md): make the last layer as clear as the clearest one.
