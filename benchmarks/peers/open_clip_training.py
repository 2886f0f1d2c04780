"""open_clip's trainer on our small dual encoder; run by benchmarks/train_cpu.py.

Reads one number a line: how many steps to run. Answers with a line of JSON. The steps
are those of `open_clip_train.train.train_one_epoch` itself, called on batches that
already lie in memory; model, loss and optimizer are made as `open_clip_train.main`
makes them (open_clip_torch 3.3.0).
"""

import argparse
import json
import logging
import sys
import time
from functools import partial
from types import SimpleNamespace

import torch
from torchvision_import import declare_missing_operators

declare_missing_operators()

import open_clip  # noqa: E402
import timm  # noqa: E402
from open_clip.model import CustomTextCLIP  # noqa: E402
from open_clip_train import train as open_clip_train  # noqa: E402
from timm.models.eva import _create_eva  # noqa: E402

VISION = "vit_pe_core_benchmark"


def register_vision_tower(sizes: dict) -> None:
    """Registers timm's PE tower (the options of its `vit_pe_core_*`) at our sizes."""

    def build(pretrained: bool = False, **kwargs: object) -> torch.nn.Module:
        grid = sizes["image_size"] // sizes["patch_size"]
        options = {
            "img_size": sizes["image_size"],
            "patch_size": sizes["patch_size"],
            "embed_dim": sizes["vision_dim"],
            "depth": sizes["vision_layers"],
            "num_heads": sizes["vision_heads"],
            "mlp_ratio": 4.0,
            "global_pool": "map",
            "attn_type": "rope",
            "use_pre_transformer_norm": True,
            "use_rot_pos_emb": True,
            "ref_feat_shape": (grid, grid),
            "rope_grid_offset": 1.0,
            "rope_grid_indexing": "xy",
            "attn_pool_num_heads": sizes["pooling_heads"],
            "attn_pool_mlp_ratio": 4.0,
            "norm_layer": partial(timm.layers.LayerNorm, eps=1e-05),
        }
        return _create_eva(
            "vit_pe_core_tiny_patch16_384", pretrained=False, **{**options, **kwargs}
        )

    build.__name__ = VISION
    build.__module__ = __name__
    timm.models.register_model(build)


def build_model(sizes: dict, precision: str) -> torch.nn.Module:
    """Returns the model with the settings of `open_clip.factory.create_model`."""
    register_vision_tower(sizes)
    cast_dtype = open_clip.get_cast_dtype(precision)
    model = CustomTextCLIP(
        embed_dim=sizes["output_dim"],
        vision_cfg={
            "image_size": sizes["image_size"],
            "timm_model_name": VISION,
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": None,
        },
        text_cfg={
            "context_length": sizes["context_length"],
            "vocab_size": sizes["vocabulary_size"],
            "width": sizes["text_dim"],
            "heads": sizes["text_heads"],
            "layers": sizes["text_layers"],
        },
        cast_dtype=cast_dtype,
        output_dict=True,
    )
    if precision == "pure_bf16":
        model.to(dtype=torch.bfloat16)
    elif precision == "bf16":
        open_clip.convert_weights_to_lp(model, dtype=torch.bfloat16)
    return model


def build_optimizer(model: torch.nn.Module, options: dict) -> torch.optim.Optimizer:
    """Returns AdamW over the two groups that open_clip's main makes."""
    gains, rest = [], []
    for name, parameter in model.named_parameters():
        words = ("bn", "ln", "bias", "logit_scale")
        plain = parameter.ndim < 2 or any(word in name for word in words)
        (gains if plain else rest).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": gains, "weight_decay": 0.0},
            {"params": rest, "weight_decay": options["weight_decay"]},
        ],
        lr=options["learning_rate"],
        betas=(0.9, options["beta_2"]),
        eps=options["epsilon"],
    )


class Batches:
    """Stands where open_clip has a data loader: the same few batches again."""

    def __init__(self, batches: list, length: int, batch_size: int) -> None:
        self.batches, self.num_batches = batches, length
        self.num_samples = length * batch_size

    def __iter__(self) -> object:
        for number in range(self.num_batches):
            yield self.batches[number % len(self.batches)]


def main() -> None:
    """Builds the trainer, then runs steps as told."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", help="JSON written by benchmarks/train_cpu.py")
    settings = json.loads(parser.parse_args().settings)
    logging.disable(logging.INFO)
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(0)
    sizes, options = settings["sizes"], settings["optimizer"]
    model = build_model(sizes, settings["precision"])
    parameters = sum(p.numel() for p in model.parameters())
    optimizer = build_optimizer(model, options)
    arguments = SimpleNamespace(
        device="cpu",
        precision=settings["precision"],
        accum_freq=1,
        distill=False,
        skip_scheduler=True,
        grad_clip_norm=options["clip_norm"],
        horovod=False,
        batch_size=settings["batch_size"],
        world_size=1,
        rank=0,
        local_rank=0,
        distributed=False,
        log_every_n_steps=10**9,
        wandb=False,
    )
    trained = torch.compile(model) if settings["compiled"] else model
    loss = open_clip.ClipLoss(cache_labels=True)
    size, side = settings["batch_size"], sizes["image_size"]
    batches = []
    for _ in range(settings["batches"]):
        texts = torch.randint(1, sizes["vocabulary_size"] - 2, (size, 20))
        texts[:, -1] = sizes["vocabulary_size"] - 1
        batches.append((torch.rand(size, 3, side, side) * 2 - 1, texts))
    print(json.dumps({"parameters": parameters}), flush=True)
    for line in sys.stdin:
        loader = Batches(batches, int(line), size)
        data = SimpleNamespace(dataloader=loader, set_epoch=lambda epoch: None)
        wall, cpu = time.perf_counter(), time.process_time()
        open_clip_train.train_one_epoch(
            trained, {"train": data}, loss, 0, optimizer, None, None, None, arguments
        )
        answer = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
