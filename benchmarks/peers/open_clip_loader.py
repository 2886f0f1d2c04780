"""open_clip's webdataset pipeline on our shards; run by benchmarks/loader.py.

Reads one number a line: how many batches to take. Answers with a line of JSON. The
pipeline is `open_clip_train.data.get_wds_dataset` itself (open_clip_torch 3.3.0), with
its own tokenizer; the transform is either made of torchvision's parts with Perception
Encoder's settings, or open_clip's `image_transform`, which resizes bicubically and
mirrors nothing.
"""

import argparse
import json
import logging
import sys
from types import SimpleNamespace

from torchvision_import import declare_missing_operators

declare_missing_operators()

import open_clip  # noqa: E402
import torch  # noqa: E402
from open_clip.transform import (  # noqa: E402
    AugmentationCfg,
    MaybeConvertMode,
    MaybeToTensor,
    image_transform,
)
from open_clip_train.data import get_wds_dataset  # noqa: E402
from torchvision import transforms  # noqa: E402

SCALE, RATIO, JITTER = (0.08, 1.0), (0.75, 1.33), (0.32, 0.0, 0.32, 0.0)
HALF = (0.5, 0.5, 0.5)


def make_transform(image_size: int, own: bool) -> object:
    """Returns open_clip's transform, or the same parts with the paper's settings."""
    if own:
        return image_transform(
            image_size,
            is_train=True,
            mean=HALF,
            std=HALF,
            aug_cfg=AugmentationCfg(
                scale=SCALE, color_jitter=JITTER, color_jitter_prob=1.0
            ),
        )
    return transforms.Compose(
        [
            transforms.RandomResizedCrop(
                image_size,
                scale=SCALE,
                ratio=RATIO,
                interpolation=transforms.InterpolationMode.BILINEAR,
            ),
            MaybeConvertMode(),
            transforms.ColorJitter(*JITTER),
            transforms.RandomHorizontalFlip(),
            MaybeToTensor(),
            transforms.Normalize(HALF, HALF),
        ]
    )


def main() -> None:
    """Opens the pipeline, then takes batches as told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", help="JSON written by benchmarks/loader.py")
    settings = json.loads(parser.parse_args().settings)
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    arguments = SimpleNamespace(
        train_data=settings["folder"] + "/{000..001}.tar",
        train_num_samples=10**8,
        train_data_upsampling_factors=None,
        dataset_resampled=False,
        seed=0,
        batch_size=settings["batch_size"],
        workers=1,
        world_size=1,
    )
    data = get_wds_dataset(
        arguments,
        make_transform(settings["image_size"], settings["own_transform"]),
        is_train=True,
        tokenizer=open_clip.get_tokenizer("ViT-B-32"),
    )
    batches = iter(data.dataloader)
    for line in sys.stdin:
        for _ in range(int(line)):
            images, _ = next(batches)
        print(json.dumps([list(images.shape), str(images.dtype)]), flush=True)


if __name__ == "__main__":
    main()
