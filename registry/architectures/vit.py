"""The vision transformers of three code bases, each exactly; timm's differ in initialisation, scale or head."""

import math

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._network import Network
from unlearnable_bench.registry.architectures._tokens import Patches, TokenEmbedding, feed_forward


class _Attention(nn.Module):
    """Self-attention; the scores are multiplied by `scale`."""

    def __init__(self, width: int, heads: int, head_width: int, scale: float, dropout: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, scale
        self.mix = nn.Linear(width, 3 * heads * head_width, bias=False)
        self.out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(dropout))

    def scaled(self, scores: Tensor) -> Tensor:
        return scores * self.scale

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (
            self.mix(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, heads, tokens, head_width)
        weights = self.scaled(query @ key.transpose(2, 3)).softmax(3)  # (B, heads, tokens, tokens)
        return self.out((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _LocalAttention(_Attention):
    """Attention whose temperature is learned, and in which no token looks at itself."""

    def __init__(self, width: int, heads: int, head_width: int, scale: float, dropout: float) -> None:
        super().__init__(width, heads, head_width, scale, dropout)
        self.temperature = nn.Parameter(torch.tensor(math.log(scale)))

    def scaled(self, scores: Tensor) -> Tensor:
        itself = torch.eye(scores.shape[3], dtype=torch.bool, device=scores.device)
        return (scores * self.temperature.exp()).masked_fill(itself, torch.finfo(scores.dtype).min)


class _Block(nn.Module):
    """Attention, then two linear layers, each normalised before and added to its input."""

    def __init__(self, attention: nn.Module, width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), attention
        self.norm2, self.linear = nn.LayerNorm(width), feed_forward(width, hidden, dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.linear(self.norm2(x))  # type: ignore[no-any-return]


class _First(nn.Module):
    """The class token."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0]  # (B, width)


@ARCHITECTURES.register("vit-lfu", display_name="Vision transformer (LfU)", label="ViT (LfU)")
def vit_lfu(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Vision transformer of seven blocks of width 384 with a hidden layer in its head, 6,408,586 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W are `image_size`, divisible by 4. Dosovitskiy et al.,
    ICLR 2021, as in the code of the learn-from-unlearnable paper: 4x4 patches, 12 heads of 32, no dropout. Scores are scaled
    by 384^-0.5, the whole width's rather than a head's. Positions and class token are drawn from N(0, 1), all else as torch
    draws it. `features` are the 384 values after the hidden layer: feature reweighting replaces the final linear layer only.
    """
    width = 384
    embedding = TokenEmbedding(Patches(in_channels, image_size, width), width, 0.0, class_token=True)
    blocks = [_Block(_Attention(width, 12, 32, width**-0.5, 0.0), width, width, 0.0) for _ in range(7)]
    last = nn.Sequential(_First(), nn.LayerNorm(width), nn.Linear(width, width), nn.GELU())
    return Network([embedding, *blocks, last], nn.Linear(width, num_classes))


@ARCHITECTURES.register("vit-iss", display_name="Vision transformer (ISS)", label="ViT (ISS)")
def vit_iss(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Vision transformer of six blocks of width 512 with dropout 0.1, 9,523,722 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W are `image_size`, divisible by 4. Dosovitskiy et al.,
    ICLR 2021, as in the code of iss: 4x4 patches, 8 heads of 64; the attention weights themselves have no dropout. Positions
    and class token are drawn from N(0, 1), all else as torch draws it. It needs about 200 epochs.
    """
    width = 512
    embedding = TokenEmbedding(Patches(in_channels, image_size, width), width, 0.1, class_token=True)
    blocks = [_Block(_Attention(width, 8, 64, 64**-0.5, 0.1), width, width, 0.1) for _ in range(6)]
    return Network([embedding, *blocks, nn.Sequential(_First(), nn.LayerNorm(width))], nn.Linear(width, num_classes))


@ARCHITECTURES.register("vit-apb", display_name="Vision transformer (APBench)", label="ViT (APBench)")
def vit_apb(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """Vision transformer for small datasets, six blocks of width 512 with dropout 0.1, 9,622,512 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W are `image_size`, divisible by 4. Lee et al. 2021
    (arXiv 2112.13492), as in the code of APBench: patches of the image and its four shifted copies, a learned temperature
    and a masked diagonal in every attention. Positions and class token are drawn from N(0, 1), all else as torch draws it.
    With Adam the learning rate of 0.1 diverges; 1e-4 to 1e-3 work.
    """
    width = 512
    embedding = TokenEmbedding(Patches(in_channels, image_size, width, shifted=True), width, 0.1, class_token=True)
    blocks = [_Block(_LocalAttention(width, 8, 64, 64**-0.5, 0.1), width, width, 0.1) for _ in range(6)]
    return Network([embedding, *blocks, nn.Sequential(_First(), nn.LayerNorm(width))], nn.Linear(width, num_classes))
