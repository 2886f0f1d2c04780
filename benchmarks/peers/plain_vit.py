"""Perception Encoder's vision tower in plain PyTorch, for speed comparisons.

What one writes with PyTorch's own parts: a strided convolution, fused queries, keys and
values, `scaled_dot_product_attention`, RoPE in float32. Parameters have upstream's
names, so a published checkpoint loads with `load_state_dict` and a test compares the
outputs with upstream's numbers. Any grid but the native one is left out.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional


def rotary_table(side: int, head_dim: int, class_token: bool) -> torch.Tensor:
    """Returns complex numbers (tokens, head_dim // 2) that turn the channel pairs."""
    count = head_dim // 4
    frequencies = 10_000.0 ** -(torch.arange(count, dtype=torch.float32) / count)
    positions = torch.arange(side, dtype=torch.float32) + float(class_token)
    angles = positions[:, None] * frequencies
    columns = angles[None, :].expand(side, side, count)
    rows = angles[:, None].expand(side, side, count)
    table = torch.cat([columns, rows], dim=-1).reshape(side * side, 2 * count)
    if class_token:
        table = torch.cat([torch.zeros_like(table[:1]), table])
    return torch.polar(torch.ones_like(table), table)


def rotate(x: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Turns interleaved channel pairs of x (batch, heads, tokens, head_dim)."""
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    turned = [even * cosine - odd * sine, odd * cosine + even * sine]
    return torch.stack(turned, dim=-1).flatten(-2).to(x.dtype)


class Attention(nn.Module):
    """Multi-head self-attention or, with a query of its own, pooling."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.randn(3 * width, width) * width**-0.5)
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, tokens, width) -> (batch, heads, tokens, head_dim)"""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def forward(self, x: torch.Tensor, cosine: Any, sine: Any) -> torch.Tensor:
        projected = functional.linear(x, self.in_proj_weight, self.in_proj_bias)
        query, key, value = map(self.split, projected.chunk(3, dim=-1))
        query, key = rotate(query, cosine, sine), rotate(key, cosine, sine)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))

    def pool(self, probe: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Lets the probe (batch, 1, width) ask the tokens."""
        width = x.shape[-1]
        weight, bias = self.in_proj_weight, self.in_proj_bias
        query = self.split(functional.linear(probe, weight[:width], bias[:width]))
        both = functional.linear(x, weight[width:], bias[width:])
        key, value = map(self.split, both.chunk(2, dim=-1))
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))


class FeedForward(nn.Module):
    """Two linear maps with an exact GELU between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, inner)
        self.c_proj = nn.Linear(inner, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c_proj(functional.gelu(self.c_fc(x)))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = FeedForward(width, inner)

    def forward(self, x: torch.Tensor, cosine: Any, sine: Any) -> torch.Tensor:
        x = x + self.attn(self.ln_1(x), cosine, sine)
        return x + self.mlp(self.ln_2(x))


class AttentionPool(nn.Module):
    """One learned probe asks all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.probe = nn.Parameter(torch.randn(1, 1, width))
        self.attn = Attention(width, heads)
        self.layernorm = nn.LayerNorm(width)
        self.mlp = FeedForward(width, 4 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pooled = self.attn.pool(self.probe.expand(len(x), -1, -1), x)
        return (pooled + self.mlp(self.layernorm(pooled))).squeeze(1)


class PlainVisionTower(nn.Module):
    """The vision tower of a row of `keras_pe.presets.variants`.

    Args:
        config: constructor arguments of `PEVisionEncoder`; pooling by attention or
            none, no LayerScale.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        width, patch = config["hidden_dim"], config["patch_size"]
        side, heads = config["image_size"] // patch, config["num_heads"]
        self.class_token = config.get("class_token", True)
        tokens = side * side + int(self.class_token)
        self.conv1 = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        if self.class_token:
            self.class_embedding = nn.Parameter(torch.randn(width) * width**-0.5)
        self.positional_embedding = nn.Parameter(
            torch.randn(tokens, width) * width**-0.5
        )
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = nn.Module()
        self.transformer.resblocks = nn.ModuleList(
            Block(width, heads, config["intermediate_dim"])
            for _ in range(config["num_layers"])
        )
        self.ln_post = nn.LayerNorm(width) if config.get("final_norm", True) else None
        self.attn_pool = None
        if config.get("pooling", "attention") == "attention":
            self.attn_pool = AttentionPool(width, config.get("pooling_heads", 8))
        self.proj = None
        if config.get("output_dim") is not None:
            self.proj = nn.Parameter(
                torch.randn(width, config["output_dim"]) * width**-0.5
            )
        table = rotary_table(side, width // heads, self.class_token)
        # Plain attributes: casting the model to bfloat16 must leave them in float32.
        self.cosine, self.sine = table.real.contiguous(), table.imag.contiguous()

    def place(self, device: str, dtype: torch.dtype) -> "PlainVisionTower":
        """Moves weights and RoPE's table to a device; the table stays float32."""
        self.cosine, self.sine = self.cosine.to(device), self.sine.to(device)
        return self.to(device=device, dtype=dtype).eval()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, 3, height, width) in [-1, 1] -> embedding, or all tokens."""
        x = self.conv1(images).flatten(2).transpose(1, 2)  # (batch, patches, width)
        if self.class_token:
            first = self.class_embedding.expand(len(x), 1, -1)
            x = torch.cat([first, x], dim=1)
        x = self.ln_pre(x + self.positional_embedding)
        for block in self.transformer.resblocks:
            x = block(x, self.cosine, self.sine)
        if self.ln_post is not None:
            x = self.ln_post(x)
        if self.attn_pool is not None:
            x = self.attn_pool(x)
        return x if self.proj is None else x @ self.proj
