"""Cutout: black out a square, so that no single region is enough."""

from dataclasses import dataclass

import torch
from torch import Tensor

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, Paper


@DEFENSES.register("cutout")
@dataclass(frozen=True)
class Cutout(Defense):
    """Set a square of every image of a batch to black; its centre is a uniform pixel, its edges are cut at the border.

    Each image gets its own square, every time it is drawn.
    """

    size: int = 16  # side of the square, pixels

    display_name = "Cutout"
    label = "Cutout"
    paper = Paper(
        "Improved Regularization of Convolutional Neural Networks with Cutout",
        venue="arXiv 2017",
        url="https://arxiv.org/abs/1708.04552",
        authors="Terrance DeVries, Graham W. Taylor",
        year=2017,
    )

    def __post_init__(self) -> None:
        if self.size < 0:
            raise EntryError(f"defense cutout: size={self.size}, expected 0 or more pixels")

    def augment(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        height, width = x.shape[2:]
        centre_row = torch.randint(height, (len(x), 1), device=x.device)
        centre_column = torch.randint(width, (len(x), 1), device=x.device)
        rows = torch.arange(height, device=x.device) - centre_row + self.size // 2  # (B, H)
        columns = torch.arange(width, device=x.device) - centre_column + self.size // 2  # (B, W)
        hit_rows, hit_columns = (rows >= 0) & (rows < self.size), (columns >= 0) & (columns < self.size)
        hole = hit_rows[:, None, :, None] & hit_columns[:, None, None, :]  # (B, 1, H, W)
        return x.masked_fill(hole, 0.0), y
