"""OPS: one-pixel shortcut.

For each class, find the pixel and the extreme colour from which its images differ most and most evenly, and set that pixel
to that colour in every image of the class.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, NotApplicable, Paper
from registry.contract import DataInfo


@ATTACKS.register("ops")
@dataclass(frozen=True)
class OnePixelShortcut(Attack):
    """Wu et al.'s search by the score of their code, mean over standard deviation of the distance to the colour.

    The distance pools all images of the class and all channels. Deterministic given the images. A pair of position and
    colour that an earlier class took is not taken again; ties go to the first position in reading order.
    """

    epsilon: int = 1  # changed pixels per image (the papers' sparsity)

    paper = Paper(
        "One-Pixel Shortcut: On the Learning Preference of Deep Neural Networks",
        venue="ICLR 2023",
        url="https://arxiv.org/abs/2205.12141",
        authors="Shutong Wu, Sizhe Chen, Cihang Xie, Xiaolin Huang",
        year=2023,
    )

    def __post_init__(self) -> None:
        if self.epsilon < 1:
            raise EntryError(f"attack ops: epsilon={self.epsilon}, expected at least 1 pixel")

    @property
    def budget(self) -> Budget:
        return Budget("l0", self.epsilon)

    def applies(self, info: DataInfo) -> None:
        channels, height, width = info.shape
        if channels > 4:
            raise NotApplicable(f"searches the 2^C corner colours; the images have C = {channels} channels")
        if info.num_classes * self.epsilon > height * width * 2**channels:
            raise NotApplicable(f"{info.num_classes} classes do not find different pixels in {height}x{width}")

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        channels, height, width = clean.images.shape[1:]
        colours = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * channels).view(-1, channels)  # (2^C, C)
        taken: set[int] = set()
        marks: list[list[tuple[int, Tensor]]] = []  # per class: flat position and colour, best last
        for label in range(clean.num_classes):
            rows = torch.nonzero(clean.labels == label).flatten()
            score = self._scores(clean, rows, colours)  # (positions, colours)
            flat = score.flatten()
            flat[list(taken)] = 0
            best = torch.sort(flat, descending=True, stable=True).indices[: self.epsilon]
            taken.update(best.tolist())
            marks.append([(int(i) // len(colours), colours[int(i) % len(colours)]) for i in best.flip(0)])
            job.progress(label + 1, clean.num_classes)
        for where in clean.batches():
            x = clean.pixels(where).flatten(2)  # (n, C, H*W)
            delta = torch.zeros_like(x)
            for label, pixels in enumerate(marks):
                members = clean.labels[where] == label
                for position, colour in pixels:
                    delta[members, :, position] = colour - x[members, :, position]
            yield where, delta.view(-1, channels, height, width)

    @staticmethod
    def _scores(clean: ImageSet, rows: Tensor, colours: Tensor) -> Tensor:
        """Return mean / standard deviation of |colour - x| per position and colour, from exact integer moments."""
        channels = clean.images.shape[1]
        first = torch.zeros(channels, clean.images[0, 0].numel(), dtype=torch.int64)  # (C, H*W)
        second = torch.zeros_like(first)
        for part in rows.split(4096):
            x = clean.images[part].flatten(2).int()
            first += x.sum(0, dtype=torch.int64)
            second += (x * x).sum(0, dtype=torch.int64)
        n = len(rows)
        ones = colours.long()  # (2^C, C)
        # against 0 the distance is x, against 1 it is 255 - x
        sums = (1 - ones) @ first + ones @ (255 * n - first)  # (2^C, H*W)
        squares = (1 - ones) @ second + ones @ (255 * 255 * n - 510 * first + second)
        mean = sums.double() / max(1, channels * n)
        spread = (squares.double() / max(1, channels * n) - mean * mean).clamp(min=0).sqrt()
        score = torch.where(spread > 1e-9, mean / spread.clamp(min=1e-9), torch.where(mean > 0, 1e12, 0.0))
        return score.T.contiguous()
