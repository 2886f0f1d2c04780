"""Six shapes of one colour each, two of them of one kind and one family."""

from PIL import Image, ImageDraw

from recipes.language_data.scene_images import CutOut

THINGS = {
    "disc": ("round thing", "red", ""),
    "ring": ("round thing", "green", ""),
    "square": ("angular thing", "blue", ""),
    "bar": ("angular thing", "black", ""),
    "tall box": ("angular thing", "white", "boxes"),
    "high box": ("angular thing", "yellow", "boxes"),
    "cross": ("angular thing", "purple", ""),
    "stick": ("angular thing", "cyan", ""),
}


def cut_out(name):
    """Returns a shape of its colour on nothing."""
    kind, colour, family = THINGS[name]
    image = Image.new("RGBA", (24, 24))
    brush = ImageDraw.Draw(image)
    if kind == "round thing":
        brush.ellipse((1, 1, 22, 22), colour)
    elif "box" in name or name == "stick":
        brush.rectangle((7, 1, 16, 22), colour)
    elif name == "bar":
        brush.rectangle((1, 8, 22, 15), colour)
    else:
        brush.rectangle((1, 1, 22, 22), colour)
    box = image.getchannel("A").getbbox()
    return CutOut(image.crop(box), name, kind, family, f"{name}.png")


def cut_outs():
    return [cut_out(name) for name in THINGS]
