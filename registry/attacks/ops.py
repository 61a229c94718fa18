"""OPS: one-pixel shortcut.

For each class, find the pixel and the extreme colour from which its images differ most and most evenly, and set that pixel
to that colour in every image of the class.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, NotApplicable
from unlearnable_bench.registry._papers import OPS
from unlearnable_bench.registry.contract import BLOCK, DataInfo

EXACT = 257  # images; so many levels, or bytes of squares, add up in 16 bits


@ATTACKS.register("ops")
@dataclass(frozen=True)
class OnePixelShortcut(Attack):
    """Change one pixel of every image, with the position and color that mark its class best (Wu et al.).

    The score is that of their code, mean over standard deviation of the distance to the color. The distance pools all images of
    the class and all channels. Deterministic given the images. A pair of position and color that an earlier class took is not
    taken again; ties go to the first position in reading order.
    Changed from the authors' code, for epsilon above 1: of two colours that a class finds at one position the better one stays;
    theirs is overwritten by the worse, which is found later.
    """

    epsilon: int = 1  # changed pixels per image (the papers' sparsity)

    display_name = "One-pixel shortcut"
    label = "OPS"
    budget_norm = "l0"
    paper = OPS

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
        positions, colours = self.search(clean, job)
        for where in clean.blocks():
            yield where, mark(clean.images[where].clone(), clean.labels[where], positions, colours)

    def search(self, clean: ImageSet, job: Job) -> tuple[Tensor, Tensor]:
        """Return what to set in the images of each class: flat positions (K, epsilon) and levels (K, epsilon, C), best last."""
        channels = clean.images.shape[1]
        corners = torch.cartesian_prod(*[torch.tensor([0, 1])] * channels).view(-1, channels)  # (2^C, C)
        positions = torch.zeros(clean.num_classes, self.epsilon, dtype=torch.int64)
        colours = torch.zeros(clean.num_classes, self.epsilon, channels, dtype=torch.uint8)
        taken: list[int] = []
        for label in range(clean.num_classes):
            rows = torch.nonzero(clean.labels == label).flatten()
            if len(rows):
                flat = self._scores(clean, rows, corners).flatten().numpy()  # (positions x colours)
                flat[taken] = 0
                found: list[int] = []
                for _ in range(self.epsilon):
                    found.insert(0, int(flat.argmax()))  # the first of equals
                    flat[found[0]] = -1
                taken += found
                best = torch.tensor(found)
                positions[label] = best // len(corners)
                colours[label] = 255 * corners[best % len(corners)].to(torch.uint8)
            job.progress(label + 1, clean.num_classes)
        return positions, colours

    @staticmethod
    def _scores(clean: ImageSet, rows: Tensor, corners: Tensor) -> Tensor:
        """Return mean / standard deviation of |colour - x| per position and colour, from exact integer moments."""
        channels, values = clean.images.shape[1], clean.images[0].numel()
        levels, squares = (np.zeros((channels, values // channels), np.int64) for _ in range(2))  # sums, (C, H*W)
        for part in rows.split(min(EXACT, max(1, BLOCK // values))):
            x = clean.images.index_select(0, part).flatten(2).numpy().astype(np.uint16)  # (n, C, H*W)
            levels += x.sum(0, dtype=np.uint16)
            np.multiply(x, x, out=x)
            whole = x.sum(0, dtype=np.uint16)  # of squares, less multiples of 65536
            high = np.right_shift(x, 8, out=x).sum(0, dtype=np.uint16)  # of their upper bytes
            squares += 256 * high.astype(np.int64) + (whole - 256 * high)  # the lower bytes fit 16 bits again
        n, first, second = len(rows), torch.from_numpy(levels), torch.from_numpy(squares)
        ones = corners.long()
        # against 0 the distance is x, against 1 it is 255 - x
        sums = (1 - ones) @ first + ones @ (255 * n - first)  # (2^C, H*W)
        sums_of_squares = (1 - ones) @ second + ones @ (255 * 255 * n - 510 * first + second)
        mean = sums.double() / (channels * n)
        spread = (sums_of_squares.double() / (channels * n) - mean * mean).clamp(min=0).sqrt()
        score = torch.where(spread > 1e-9, mean / spread.clamp(min=1e-9), torch.where(mean > 0, 1e12, 0.0))
        return score.T.contiguous()


def mark(images: Tensor, labels: Tensor, positions: Tensor, colours: Tensor) -> Tensor:
    """Set the pixels of each image's class in place; where two share a position the later stays."""
    flat, rows = images.flatten(2), torch.arange(len(images))
    for number in range(positions.shape[1]):
        flat[rows, :, positions[labels, number]] = colours[labels, number]
    return images
