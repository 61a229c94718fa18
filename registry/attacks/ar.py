"""AR: autoregressive perturbations.

Every class has one causal 3x3 recurrence per channel; the noise of an image is that recurrence run over a random border. A
single 3x3 filter cancels the noise of a class, which a convolutional network finds at once and a linear model does not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unlearnable_bench.registry import ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper

CROP = 4  # first rows and columns that are dropped: they show the start signal
BOUND = 50.0  # largest l2 norm of an unscaled 3x32x32 noise of an accepted process
SEARCHED = 36  # side of the canvas on which processes are tried
TOGETHER = 1 << 24  # values of noise made at once: 4,096 images of 3x32x32, 111 of 3x224x224
MATRICES = 1 << 28  # values that the impulse responses of all classes may have, a GiB; beyond it noise is computed in steps


@ATTACKS.register("ar")
@dataclass(frozen=True)
class Autoregressive(Attack):
    """Autoregressive noise of Sandoval-Segura et al., with coefficients searched anew for any number of classes.

    Candidates have weights N(0, 1) divided by their sum; kept are those whose noise stays bounded (l2 norm at most 50
    before scaling) and on which the filter of every process kept before responds with at least `response` (appendix A.3).
    With `norm=linf` the noise is divided by its largest value; the authors used other coefficients there, which they call
    not optimal, ours are the same. Changed from the authors' code: candidates whose first rows have run away are dropped
    before the rest is computed; the coefficients come from the seed and are not the authors' files; noise is computed as a
    product with the impulse responses of the border, for large images along anti-diagonals, equal up to float rounding;
    4 first rows and columns are dropped at every size, as theirs at 32 and 96 pixels (2 at 224).
    """

    epsilon: float = 1.0  # radius in the norm, pixel units; the papers' l2 is 3.0 for 96x96 images
    norm: Literal["l2", "linf"] = "l2"  # l2: the length of every perturbation; linf: its largest value
    response: float = 0.0  # smallest response of the other filters; 0: 10 for up to ten classes, 3 for a hundred

    display_name = "Autoregressive perturbations"
    label = "AR"
    paper = Paper(
        "Autoregressive Perturbations for Data Poisoning",
        venue="NeurIPS 2022",
        url="https://arxiv.org/abs/2206.03693",
        authors="Pedro Sandoval-Segura, Vasu Singla, Jonas Geiping, Micah Goldblum, Tom Goldstein, David W. Jacobs",
        year=2022,
    )

    def __post_init__(self) -> None:
        if self.norm == "linf" and self.epsilon >= 1:
            raise EntryError(f"attack ar: epsilon={self.epsilon} is not an linf radius in pixel units; try epsilon=8/255")

    @property
    def budget(self) -> Budget:
        return Budget(self.norm, self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        classes = clean.num_classes
        required = self.response or (10.0 if classes <= 10 else 3.0 if classes <= 100 else 300.0 / classes)
        weights = find_processes(classes, clean.images.shape[1], required, job)  # (K, C, 3, 3)
        job.keep("coefficients", weights.numpy())
        yield from self.noise(weights, clean, job)

    def noise(self, weights: Tensor, clean: ImageSet, job: Job) -> Iterator[tuple[slice, Tensor]]:
        """Yield the noise of every image, from the coefficients (K, C, 3, 3) of the classes' processes."""
        channels, height, width = clean.images.shape[1:]
        start = border_size(height, width)
        by_matrix = clean.num_classes * channels * start * height * width <= MATRICES
        maps: dict[int, Tensor] = {}
        for batch in clean.batches():
            borders = torch.randn(batch.stop - batch.start, channels, start, generator=job.generator)
            for rows in torch.arange(len(borders)).split(max(1, TOGETHER // (channels * height * width))):
                where, border = slice(batch.start + int(rows[0]), batch.start + int(rows[-1]) + 1), borders[rows]
                labels = clean.labels[where]
                delta = torch.empty(len(labels), channels * height * width)
                for label in labels.unique().tolist():
                    members = torch.nonzero(labels == label).flatten()
                    if by_matrix:
                        if label not in maps:
                            maps[label] = impulse_responses(weights[label], height, width)  # (C, border, H*W)
                        noise = torch.einsum("ncb,cbp->ncp", border[members], maps[label])
                    else:
                        noise = along_diagonals(weights[label], border[members], height, width)
                    delta[members] = F.normalize(noise.flatten(1), 2 if self.norm == "l2" else torch.inf, 1)
                yield where, delta.mul_(self.epsilon).view(-1, channels, height, width)
                job.progress(where.stop, len(clean))


def border_size(height: int, width: int) -> int:
    """Return how many values start the recurrence: the first two rows and columns of the canvas."""
    return 2 * (width + CROP) + 2 * (height + CROP - 2)


def recur(weights: Tensor, canvas: Tensor, rows: int) -> None:
    """Run the recurrence in place up to `rows`: weights (9, ...) over canvas (H, W, ...), whose border is given."""
    width = canvas.shape[1]
    for i in range(2, rows):
        for j in range(2, width):
            value = canvas[i - 2, j - 2] * weights[0]
            value.addcmul_(canvas[i - 2, j - 1], weights[1]).addcmul_(canvas[i - 2, j], weights[2])
            value.addcmul_(canvas[i - 1, j - 2], weights[3]).addcmul_(canvas[i - 1, j - 1], weights[4])
            value.addcmul_(canvas[i - 1, j], weights[5])
            value.addcmul_(canvas[i, j - 2], weights[6]).addcmul_(canvas[i, j - 1], weights[7])
            canvas[i, j] = value


def impulse_responses(weights: Tensor, height: int, width: int) -> Tensor:
    """Return the noise that each border value causes alone: (C, border, H*W) for weights (C, 3, 3)."""
    channels = len(weights)
    rows, columns = height + CROP, width + CROP
    on_border = torch.zeros(rows, columns, dtype=torch.bool)
    on_border[:2], on_border[:, :2] = True, True
    count = border_size(height, width)
    canvas = torch.zeros(rows, columns, count, dtype=torch.float64)
    canvas[on_border] = torch.eye(count, dtype=torch.float64)
    canvas = canvas[..., None].repeat(1, 1, 1, channels)  # (rows, columns, border, C)
    recur(weights.double().permute(1, 2, 0).reshape(9, 1, channels), canvas, rows)
    return canvas[CROP:, CROP:].permute(3, 2, 0, 1).flatten(2).float().contiguous()


def along_diagonals(weights: Tensor, border: Tensor, height: int, width: int) -> Tensor:
    """Return the noise (n, C, H*W) of borders (n, C, border) by the recurrence itself, an anti-diagonal at a time.

    Slower than matrices for small images; needs no room but the canvas, which is stored slanted: row i + j, column i.
    """
    count, channels, _ = border.shape
    rows, columns = height + CROP, width + CROP
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    slanted = torch.zeros(rows + columns - 1, rows, channels, count, dtype=torch.float64)
    on_border = (row < 2) | (column < 2)
    slanted[(row + column)[on_border], row[on_border]] = border.permute(2, 1, 0).double()
    taps = [(a, b, weights[:, 2 - a, 2 - b].double().view(1, channels, 1)) for a in range(3) for b in range(3) if a or b]
    for diagonal in range(4, rows + columns - 1):
        first, last = max(2, diagonal - columns + 1), min(rows, diagonal - 1)  # where both coordinates are 2 or more
        value = slanted[diagonal, first:last]
        for a, b, weight in taps:
            value.addcmul_(slanted[diagonal - a - b, first - a : last - a], weight)
    kept = (row[CROP:, CROP:].flatten(), column[CROP:, CROP:].flatten())
    return slanted[kept[0] + kept[1], kept[0]].permute(2, 1, 0).float()  # (H*W, C, n) -> (n, C, H*W)


def find_processes(classes: int, channels: int, required: float, job: Job) -> Tensor:
    """Return weights (classes, channels, 3, 3), the last of each 3x3 zero, by the rule of appendix A.3."""
    accepted: list[Tensor] = []
    while len(accepted) < classes:
        candidates, noises = _bounded(8192, channels, job.generator)
        for weights, noise in zip(candidates, noises, strict=True):
            if accepted and len(accepted) < classes:
                filters = torch.stack(accepted)  # (l, C, 3, 3)
                filters[:, :, 2, 2] = -1
                response = F.conv2d(noise[None], filters).relu().flatten(2).sum(2)  # (1, l)
                if float(response.min()) < required:
                    continue
            if len(accepted) < classes:
                accepted.append(weights)
        job.progress(len(accepted), classes)
    return torch.stack(accepted)


def _bounded(count: int, channels: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `count` candidates; return those whose three trial noises are bounded, and their third noise at l2 norm 1."""
    weights = torch.randn(count, channels, 9, generator=generator)
    weights[..., 8] = 0
    weights /= weights.sum(-1, keepdim=True)
    for rows, trials in ((4, 1), (10, 1), (SEARCHED, 3)):
        canvas = torch.randn(SEARCHED, SEARCHED, trials, len(weights) * channels, generator=generator)
        recur(weights.permute(2, 0, 1).reshape(9, 1, -1), canvas, rows)
        start = CROP if rows > CROP else 2
        noise = canvas[start:rows, CROP:].unflatten(-1, (-1, channels))  # (rows, columns, trials, n, C)
        norms = noise.square().sum((0, 1, 4)).sqrt()  # (trials, n)
        kept = (norms <= (BOUND if rows > CROP else 10 * BOUND)).all(0)  # NaN and inf compare false
        weights = weights[kept]
        noise = noise[..., kept, :]
    last = noise[:, :, 2].permute(2, 3, 0, 1)  # (n, C, 32, 32)
    last = F.normalize(last.flatten(1), dim=1).view_as(last)
    return weights.view(-1, channels, 3, 3), last
