"""TinyViT as MobileSAM's image encoder (Wu et al., TinyViT, 2022; Zhang et al., Faster Segment Anything, 2023).

Modules bear the names of the published ``mobile_sam.pt``, so that its weights load as they are. Inference only: no
stochastic depth. Two things differ from a plain TinyViT: the last of the three downsamplings keeps the resolution
(stride 16 in all, as SAM's decoder expects), and SAM's neck takes the classifier's place.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OUT_CHANNELS = 256  # as SAM's decoder expects


class TinyViT(nn.Module):
    """(B, 3, img_size, img_size) normalised image -> (B, OUT_CHANNELS, img_size / 16, img_size / 16) embedding.

    The first stage is made of inverted bottlenecks, the others of windowed attention; the defaults are MobileSAM's.
    """

    def __init__(
        self,
        img_size: int = 1024,
        embed_dims: Sequence[int] = (64, 128, 160, 320),
        depths: Sequence[int] = (2, 2, 6, 2),
        num_heads: Sequence[int] = (2, 4, 5, 10),
        window_sizes: Sequence[int] = (7, 7, 14, 7),
    ) -> None:
        super().__init__()
        self.img_size = img_size
        self.patch_embed = PatchEmbed(embed_dims[0])
        self.layers = nn.ModuleList()
        for stage, dim in enumerate(embed_dims):
            if stage == 0:
                blocks = [MBConv(dim) for _ in range(depths[0])]
            else:
                blocks = [TinyViTBlock(dim, num_heads[stage], window_sizes[stage]) for _ in range(depths[stage])]
            downsample = None
            if stage < len(embed_dims) - 1:
                downsample = PatchMerging(dim, embed_dims[stage + 1], stride=2 if stage < 2 else 1)
            self.layers.append(Stage(blocks, downsample))
        # The backbone's classifier: in the published weights, not in the computation.
        self.norm_head = nn.LayerNorm(embed_dims[-1])
        self.head = nn.Linear(embed_dims[-1], 1000)
        self.neck = nn.Sequential(
            nn.Conv2d(embed_dims[-1], OUT_CHANNELS, 1, bias=False),
            LayerNorm2d(OUT_CHANNELS),
            nn.Conv2d(OUT_CHANNELS, OUT_CHANNELS, 3, padding=1, bias=False),
            LayerNorm2d(OUT_CHANNELS),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.neck(x)


class ConvBN(nn.Sequential):
    """Convolution and batch normalisation."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.add_module("c", nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False))
        self.add_module("bn", nn.BatchNorm2d(outputs))


class PatchEmbed(nn.Module):
    """Two convolutions of stride 2."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.seq = nn.Sequential(ConvBN(3, dim // 2, 3, 2), nn.GELU(), ConvBN(dim // 2, dim, 3, 2))

    def forward(self, x: Tensor) -> Tensor:
        return self.seq(x)


class MBConv(nn.Module):
    """Inverted bottleneck with a residual, four times as wide inside."""

    def __init__(self, dim: int, expansion: int = 4) -> None:
        super().__init__()
        hidden = dim * expansion
        self.conv1 = ConvBN(dim, hidden)
        self.conv2 = ConvBN(hidden, hidden, 3, groups=hidden)
        self.conv3 = ConvBN(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(x + self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x))))))


class PatchMerging(nn.Module):
    """From one stage to the next: other channels, and half the resolution where ``stride`` is 2."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = ConvBN(inputs, outputs)
        self.conv2 = ConvBN(outputs, outputs, 3, stride, groups=outputs)
        self.conv3 = ConvBN(outputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(F.gelu(self.conv2(F.gelu(self.conv1(x)))))


class Stage(nn.Module):
    """Blocks of one resolution, then the change to the next."""

    def __init__(self, blocks: list[nn.Module], downsample: nn.Module | None) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class TinyViTBlock(nn.Module):
    """Attention within windows, a depth-wise convolution across them, an MLP."""

    def __init__(self, dim: int, num_heads: int, window: int, mlp_ratio: int = 4) -> None:
        super().__init__()
        self.window = window
        self.attn = Attention(dim, num_heads, window)
        self.local_conv = ConvBN(dim, dim, 3, groups=dim)
        self.mlp = Mlp(dim, dim * mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        n = self.window
        # The zero padding takes part in attention, as in the published model.
        tokens = F.pad(x.permute(0, 2, 3, 1), (0, 0, 0, -W % n, 0, -H % n))
        rows, columns = tokens.shape[1] // n, tokens.shape[2] // n
        windows = tokens.reshape(B, rows, n, columns, n, C).transpose(2, 3).reshape(-1, n * n, C)
        windows = self.attn(windows)
        tokens = windows.reshape(B, rows, columns, n, n, C).transpose(2, 3).reshape(B, rows * n, columns * n, C)
        x = x + tokens[:, :H, :W].permute(0, 3, 1, 2)
        x = self.local_conv(x)
        return x + self.mlp(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Attention(nn.Module):
    """Multi-head attention over one window, with a learned bias per head and absolute offset of two tokens."""

    def __init__(self, dim: int, num_heads: int, window: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.attention_biases = nn.Parameter(torch.zeros(num_heads, window * window))
        row, column = torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")
        row, column = row.flatten(), column.flatten()
        offset = (row[:, None] - row).abs() * window + (column[:, None] - column).abs()
        self.register_buffer("offset", offset, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        B, N, C = x.shape
        qkv = self.qkv(self.norm(x)).reshape(B, N, self.num_heads, -1).transpose(1, 2)
        query, key, value = qkv.chunk(3, dim=-1)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=self.attention_biases[:, self.offset])
        return self.proj(out.transpose(1, 2).reshape(B, N, C))


class Mlp(nn.Module):
    """Normalised two-layer perceptron."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(self.norm(x))))


class LayerNorm2d(nn.Module):
    """Layer normalisation over the channels of (B, C, H, W)."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps).permute(0, 3, 1, 2)
