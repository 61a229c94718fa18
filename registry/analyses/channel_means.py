"""Mean activation of every channel, layer by layer, on clean images."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError
from unlearnable_bench.registry._papers import STAGED_TRAINING


@ANALYSES.register("channel-means")
@dataclass(frozen=True)
class ChannelMeans(Analysis):
    """Mean output of every channel of every layer of the trained victim over clean test images.

    Figure 12 of the paper, which compares networks trained on clean and on poisoned images after blocks 2, 4, 6 and the last;
    here every layer that has weights, `layer_1` first, is one curve with a value per channel. Figures: `layers`, and
    `mean_absolute`, the mean size of all these means.
    """

    images: int = 1000  # of the clean test set, the first ones

    display_name = "Mean output of channels"
    label = "Channel means"
    paper = STAGED_TRAINING
    needs: ClassVar[tuple[str, ...]] = ("epochs",)
    small: ClassVar[dict[str, Any]] = {"images": 16}

    def __post_init__(self) -> None:
        if self.images < 1:
            raise EntryError(f"analysis channel-means: images={self.images}; expected 1 or more")

    def measure(self, context: Context) -> dict[str, float]:
        sums: dict[int, Tensor] = {}

        def look(number: int) -> Any:
            def hook(layer: Any, given: Any, out: Tensor) -> None:
                means = out.detach().float().flatten(2).mean(2) if out.ndim == 4 else out.detach().float()  # (B, channels)
                sums[number] = sums.get(number, torch.zeros(1)) + means.flatten(0, -2).sum(0).cpu()

            return hook

        assert context.victim is not None, "an analysis that needs the network has a victim"
        chosen = context.test.rows(torch.arange(min(self.images, len(context.test))))
        handles = [layer.register_forward_hook(look(n)) for n, layer in enumerate(context.victim.layers, 1)]
        try:
            context.victim.logits(chosen)
        finally:
            for handle in handles:
                handle.remove()
        means = {number: total / len(chosen) for number, total in sorted(sums.items())}
        context.curves.update({f"layer_{n}": [round(v, 6) for v in values.tolist()] for n, values in means.items()})
        return {"layers": float(len(means)), "mean_absolute": float(torch.cat(list(means.values())).abs().mean())}
