"""CaiT: a transformer whose class token enters after the blocks that look at patches."""

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ARCHITECTURES
from unlearnable_bench.registry.architectures._tokens import ClassToken, Patches, TokenEmbedding, feed_forward


class _TalkingHeads(nn.Module):
    """Attention whose heads are mixed before and after the softmax by matrices drawn from N(0, 1)."""

    def __init__(self, width: int, heads: int, head_width: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.scale = heads, head_width**-0.5
        self.query = nn.Linear(width, heads * head_width, bias=False)
        self.key_value = nn.Linear(width, 2 * heads * head_width, bias=False)
        self.before = nn.Parameter(torch.randn(heads, heads))
        self.after = nn.Parameter(torch.randn(heads, heads))
        self.out = nn.Sequential(nn.Linear(heads * head_width, width), nn.Dropout(dropout))

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        query = self.query(x).unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, tokens, head_width)
        key, value = self.key_value(seen).unflatten(2, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = torch.einsum("bhij,hg->bgij", query @ key.transpose(2, 3) * self.scale, self.before)
        weights = torch.einsum("bhij,hg->bgij", scores.softmax(3), self.after)  # (B, heads, tokens, tokens seen)
        return self.out((weights @ value).transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class _Block(nn.Module):
    """Attention and two linear layers, each normalised before, scaled by channel and added to its input."""

    def __init__(self, width: int, heads: int, head_width: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1, self.attention = nn.LayerNorm(width), _TalkingHeads(width, heads, head_width, dropout)
        self.norm2, self.linear = nn.LayerNorm(width), feed_forward(width, hidden, dropout)
        self.scale1 = nn.Parameter(torch.full((width,), 0.1))  # section 2 of the paper, for up to 18 blocks
        self.scale2 = nn.Parameter(torch.full((width,), 0.1))

    def forward(self, x: Tensor, beside: Tensor | None = None) -> Tensor:
        """Map tokens to tokens; they look at each other and, unnormalised, at those `beside` them."""
        normed = self.norm1(x)
        seen = normed if beside is None else torch.cat((normed, beside), 1)
        x = x + self.scale1 * self.attention(normed, seen)
        return x + self.scale2 * self.linear(self.norm2(x))  # type: ignore[no-any-return]


class CaiT(nn.Module):
    """Blocks for patches, then blocks for the class token; in training every block is left out with `layer_drop`."""

    def __init__(self, embedding: TokenEmbedding, blocks: list[_Block], class_blocks: list[_Block], head: nn.Linear) -> None:
        super().__init__()
        self.layer_drop = 0.05
        self.embedding = embedding
        self.blocks = nn.ModuleList(blocks)
        self.token = ClassToken(head.in_features)
        self.class_blocks = nn.ModuleList(class_blocks)
        self.norm = nn.LayerNorm(head.in_features)
        self.head = head

    def kept(self, blocks: nn.ModuleList) -> list[nn.Module]:
        """Return the blocks that this step uses: all in evaluation, at least one in training."""
        if not self.training:
            return list(blocks)
        keep = torch.rand(len(blocks), device="cpu") >= self.layer_drop
        if not keep.any():
            keep[torch.randint(len(blocks), (1,), device="cpu")] = True
        return [block for block, wanted in zip(blocks, keep.tolist(), strict=True) if wanted]

    def features(self, x: Tensor) -> Tensor:
        tokens = self.embedding(x)
        for block in self.kept(self.blocks):
            tokens = block(tokens)
        token = self.token(len(x))
        for block in self.kept(self.class_blocks):
            token = block(token, tokens)
        return self.norm(token[:, 0])  # type: ignore[no-any-return]  # (B, width)

    def layers(self) -> list[nn.Module]:
        return [self.embedding, *self.blocks, self.token, *self.class_blocks, self.norm, self.head]

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))  # type: ignore[no-any-return]


@ARCHITECTURES.register("cait-apb", display_name="CaiT (APBench)", label="CaiT")
def cait_apb(num_classes: int, in_channels: int = 3, image_size: int = 32) -> nn.Module:
    """CaiT of six blocks for patches and two for the class token, width 512, 8,488,522 parameters for ten classes.

    Maps float32 (B, in_channels, H, W) to logits (B, num_classes); H, W are `image_size`, divisible by 4. Touvron et al.,
    ICCV 2021, as in the code of APBench: 4x4 patches, 6 heads of 64, 256 hidden values, dropout 0.1, layer drop 0.05.
    Positions, class token and the matrices that mix heads are drawn from N(0, 1), layer scales start at 0.1, all else is as
    torch draws it. Blocks are left out in training only; APBench's code leaves them out in evaluation too, so that its
    accuracies vary from run to run. A block left out in a step has no gradient in it. timm's `Cait` has other parameters.
    """
    width, dropout = 512, 0.1
    embedding = TokenEmbedding(Patches(in_channels, image_size, width), width, dropout, class_token=False)
    blocks = [_Block(width, 6, 64, 256, dropout) for _ in range(8)]
    return CaiT(embedding, blocks[:6], blocks[6:], nn.Linear(width, num_classes))
