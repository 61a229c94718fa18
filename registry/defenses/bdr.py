"""Bit-depth reduction: keep only the high bits, where small perturbations do not reach."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from unlearnable_bench.registry import DEFENSES, Defense, EntryError, ImageSet, Job
from unlearnable_bench.registry._papers import ISS


@DEFENSES.register("bdr")
@dataclass(frozen=True)
class BitDepthReduction(Defense):
    """Keep the `bits` most significant bits of every value, no dithering, no rescaling.

    Image shortcut squeezing with bit depth; the paper's setting is 2 bits, values 0, 64, 128 and 192.
    """

    bits: int = 2  # 1..8

    display_name = "Bit-depth reduction"
    label = "BDR {bits} bits"
    per_image: ClassVar[bool] = True
    paper = ISS

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= 8:
            raise EntryError(f"defense bdr: bits={self.bits}, expected 1 to 8")

    def purify(self, train: ImageSet, job: Job) -> ImageSet:
        kept = (0xFF << (8 - self.bits)) & 0xFF
        result = torch.empty(train.images.shape, dtype=torch.uint8)
        for where in train.batches():
            result[where] = train.levels(where) & kept
        return replace(train, images=result)
