"""What the transformers share: images cut into tokens, and the parts of a block."""

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import EntryError

PATCH = 4  # side of a patch, pixels; all transformers of the papers use it


class Patches(nn.Module):
    """Images cut into patches, each mapped to one token. Optionally with shifted copies of the image beside it.

    The copies are shifted by one pixel to the right, left, bottom and top, and the values of a patch normalised.
    """

    def __init__(self, in_channels: int, image_size: int, width: int, shifted: bool = False) -> None:
        super().__init__()
        if image_size % PATCH:
            size = f"{image_size}x{image_size}"
            raise EntryError(
                f"a transformer of {PATCH}x{PATCH} patches needs a side divisible by {PATCH}, not images of {size}"
            )
        self.shape = (in_channels, image_size, image_size)
        self.count = (image_size // PATCH) ** 2
        self.shifted = shifted
        values = in_channels * PATCH**2 * (5 if shifted else 1)
        self.norm = nn.LayerNorm(values) if shifted else nn.Identity()
        self.project = nn.Linear(values, width)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1:] != self.shape:
            found, expected = ("x".join(map(str, shape)) for shape in (x.shape[1:], self.shape))
            raise EntryError(f"this transformer was made for images of {expected}, not {found}")
        if self.shifted:
            shifts = ((1, -1, 0, 0), (-1, 1, 0, 0), (0, 0, 1, -1), (0, 0, -1, 1))  # pixels added left, right, top, bottom
            x = torch.cat([x, *(nn.functional.pad(x, shift) for shift in shifts)], 1)  # (B, 5 C, H, W)
        x = x.unflatten(3, (-1, PATCH)).unflatten(2, (-1, PATCH))  # (B, C, rows, 4, columns, 4)
        x = x.permute(0, 2, 4, 1, 3, 5).flatten(1, 2).flatten(2)  # (B, patches, values)
        return self.project(self.norm(x))  # type: ignore[no-any-return]  # (B, patches, width)


class TokenEmbedding(nn.Module):
    """The patches' tokens plus learned positions, drawn from N(0, 1); optionally a class token before them."""

    def __init__(self, patches: Patches, width: int, dropout: float, class_token: bool) -> None:
        super().__init__()
        self.patches = patches
        self.positions = nn.Parameter(torch.randn(1, patches.count + class_token, width))
        self.token = ClassToken(width) if class_token else None
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x)
        if self.token is not None:
            tokens = torch.cat((self.token(len(x)), tokens), 1)
        return self.dropout(tokens + self.positions)  # type: ignore[no-any-return]  # (B, tokens, width)


class ClassToken(nn.Module):
    """A learned token, drawn from N(0, 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.randn(1, 1, width))

    def forward(self, count: int) -> Tensor:
        return self.value.expand(count, -1, -1)  # (B, 1, width)


def feed_forward(width: int, hidden: int, dropout: float) -> nn.Sequential:
    """Return two linear layers with GELU between, dropout after each."""
    return nn.Sequential(
        nn.Linear(width, hidden), nn.GELU(), nn.Dropout(dropout), nn.Linear(hidden, width), nn.Dropout(dropout)
    )
