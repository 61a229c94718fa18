"""Whether a set as a whole is poisoned: what a network learns of it holds for its held-out images, too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from unlearnable_bench.registry import ANALYSES, Analysis, Context, EntryError, ImageSet
from unlearnable_bench.registry._papers import DETECTION_AND_DEFENSE

Look = Callable[[Tensor], Tensor]
"""Maps pixels (B, C, H, W) to what the network sees of them."""


@ANALYSES.register("set-detection")
@dataclass(frozen=True)
class SetDetection(Analysis):
    """Accuracy on held-out images of the published set, of networks that cannot learn clean images so well.

    Algorithms 1 and 2 of Zhu et al., in their code (UDP) `simple-2NN`, `simple-linear` and `bias-0.5`. A fifth of the set is
    held out and a network is trained on the rest. `two-layer` and `linear` are too simple for images, so that a high accuracy
    comes from noise. `bias` trains a deep network on pixels plus `bias` and judges it without: noise is recognized all the
    same. The set is taken for poisoned above the bound. Figures: `holdout_acc`, after the last epoch, `fit_acc`, that on the
    images trained on, and `taken_for_poisoned`, 0 or 1.

    From the code: networks, SGD with momentum at a rate of 0.01 (of `bias` as well: the code sets 0.1 after its optimizer has
    0.01), 100 epochs, shifts and mirroring for `two-layer` alone, of held-out images as well. The code prints accuracies and
    decides nothing; 0.7 is the paper's bound, of which we had a summary, not the whole text. That the bound holds for `bias` in
    the same direction was guessed. Changed: the code trains 200 epochs, with steps elsewhere, on CIFAR-100 and Tiny-ImageNet,
    whose views are stronger; ours are the same everywhere.
    """

    detector: Literal["two-layer", "linear", "bias"] = "two-layer"  # a simple network, or a deep one on shifted pixels
    bias: float = -0.5  # added to the pixels that `bias` trains on, pixel units
    bound: float = 0.7  # above this accuracy the set is taken for poisoned
    architecture: str = "resnet18"  # of `bias`
    epochs: int = 100  # of the training of the detector
    batch: int = 128  # images
    lr: float = 0.01  # a tenth from three quarters and nine tenths of the epochs on
    width: int = 0  # hidden units of `two-layer`; 0: as many as an image has values

    display_name = "Detection of poisoned sets"
    label = "Set detection, {detector}"
    paper = DETECTION_AND_DEFENSE
    needs: ClassVar[tuple[str, ...]] = ("poison",)
    small: ClassVar[dict[str, Any]] = {"epochs": 2, "batch": 32, "width": 16, "architecture": "small-cnn"}

    def __post_init__(self) -> None:
        if min(self.epochs, self.batch) < 1 or self.width < 0:
            raise EntryError(f"analysis set-detection: expected counts of 1 or more and a width of 0 or more, found {self}")

    def measure(self, context: Context) -> dict[str, float]:
        from unlearnable_bench.registry._crafting import Crafting
        from unlearnable_bench.registry._two_layer import TwoLayerTraining, fit

        order = torch.randperm(len(context.poison), generator=context.job.generator)
        held_out, trained_on = (context.poison.rows(rows) for rows in order.tensor_split([len(order) // 5]))
        run = Crafting(trained_on, context.job)
        net = self._network(run)
        trains, judges = self._looks(run.device_generator)
        plan = TwoLayerTraining(self.epochs, self.batch, self.lr)
        fit(net, trained_on, plan, context.job, lambda _, x, y: trains(x))
        accuracy = _accuracy(net, held_out, judges, context.job.device)
        return {
            "holdout_acc": accuracy,
            "fit_acc": _accuracy(net, trained_on, trains, context.job.device),
            "taken_for_poisoned": float(accuracy > self.bound),
        }

    def _network(self, run: Any) -> nn.Module:
        from unlearnable_bench.registry._surrogates import surrogate
        from unlearnable_bench.registry._two_layer import two_layer

        values, classes = run.clean.images[0].numel(), run.clean.num_classes
        if self.detector == "bias":
            return surrogate(run, self.architecture)
        if self.detector == "linear":
            return nn.Sequential(nn.Flatten(), nn.Linear(values, classes)).to(run.device)
        return two_layer(values, classes, self.width).to(run.device)

    def _looks(self, generator: torch.Generator) -> tuple[Look, Look]:
        """Return what the network sees of images while it is trained, and while it is judged."""
        from unlearnable_bench.registry._views import crop_flip

        if self.detector == "bias":
            return lambda x: x + self.bias, lambda x: x
        if self.detector == "linear":
            return lambda x: x, lambda x: x
        return (lambda x: crop_flip(x, generator)(x),) * 2


@torch.no_grad()
def _accuracy(net: nn.Module, images: ImageSet, look: Look, device: torch.device | str) -> float:
    net.eval()
    right = 0
    for where in images.batches(500):
        answers = net(look(images.pixels(where, device))).argmax(1).cpu()
        right += int((answers == images.labels[where]).sum())
    return right / max(1, len(images))
