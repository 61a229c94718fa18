"""EM: error-minimizing noise.

Make every training image already easy: noise that drives the training loss to nothing for a surrogate that is itself trained
on the noisy images, so that a victim sees nothing left to learn.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from registry import ARCHITECTURES, ATTACKS, Attack, Budget, EntryError, ImageSet, Job, Paper
from registry._steps import sign_of_gradient, still


@ATTACKS.register("em")
@dataclass(frozen=True)
class ErrorMinimizing(Attack):
    """Sample-wise error-minimizing noise as Huang et al. state it.

    Rounds of `weight_steps` training steps of the surrogate on the noisy images and one pass of `noise_steps` signed descent
    steps over all images, until the surrogate errs on at most `stop_error` of them. No augmentation; the surrogate computes
    input gradients in evaluation mode; the noise is projected to the box around the image, not to valid pixels.
    Changed from the authors' code: the perturbation keeps its negative half, which their data loader cuts off, as the paper
    has it; images are visited in one fixed random order instead of the order of the files; `max_rounds` bounds the search.
    """

    epsilon: float = 8 / 255  # linf radius, pixel units
    surrogate: str = "resnet18"
    weight_steps: int = 10  # training steps per round
    batch: int = 512  # images per training step
    noise_steps: int = 20  # signed steps per round
    step_size: float = 0.8 / 255  # pixel units
    lr: float = 0.1  # constant
    weight_decay: float = 5e-4
    stop_error: float = 0.01  # fraction of the training images
    max_rounds: int = 50

    small: ClassVar[dict[str, Any]] = {"surrogate": "small-cnn", "batch": 32, "noise_steps": 2, "max_rounds": 3}
    paper = Paper(
        "Unlearnable Examples: Making Personal Data Unexploitable",
        venue="ICLR 2021",
        url="https://arxiv.org/abs/2101.04898",
        authors="Hanxun Huang, Xingjun Ma, Sarah Monazam Erfani, James Bailey, Yisen Wang",
        year=2021,
    )

    def __post_init__(self) -> None:
        if min(self.weight_steps, self.batch, self.noise_steps, self.max_rounds) < 1:
            raise EntryError("attack em: weight_steps, batch, noise_steps and max_rounds must be 1 or more")

    @property
    def budget(self) -> Budget:
        return Budget("linf", self.epsilon)

    def craft(self, clean: ImageSet, job: Job) -> Tensor:
        info = clean.info
        surrogate: nn.Module = ARCHITECTURES[self.surrogate](info.num_classes, info.shape[0], info.shape[1])
        surrogate.to(job.device)
        optimizer = torch.optim.SGD(surrogate.parameters(), self.lr, momentum=0.9, weight_decay=self.weight_decay)
        delta = torch.zeros(clean.images.shape)  # pixel units
        batches = self._endless(len(clean), job.generator)
        passes = 0.0
        for number in range(self.max_rounds):
            self._train(surrogate, optimizer, clean, delta, batches, job)
            error = self._minimize(surrogate, clean, delta, job)
            passes += 3 * self.weight_steps * self.batch / len(clean) + 2 * self.noise_steps + 1
            job.progress(number + 1, self.max_rounds)
            if error <= self.stop_error:
                break
        job.note(passes=passes, rounds=number + 1, surrogate_error=error)
        return delta

    def _endless(self, size: int, generator: torch.Generator):  # type: ignore[no-untyped-def]  # a generator of rows
        order = torch.randperm(size, generator=generator)
        while True:
            yield from order.split(self.batch)

    def _train(
        self, net: nn.Module, optimizer: torch.optim.Optimizer, clean: ImageSet, delta: Tensor, batches: Any, job: Job
    ) -> None:
        net.train()
        for _ in range(self.weight_steps):
            rows = next(batches)
            x = clean.pixels(rows, job.device) + delta[rows].to(job.device)  # not clamped here
            loss = F.cross_entropy(net(x), clean.labels[rows].to(job.device))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 5.0)
            optimizer.step()

    def _minimize(self, net: nn.Module, clean: ImageSet, delta: Tensor, job: Job) -> float:
        """Update delta in place for all images; return the fraction of them that the surrogate gets wrong afterwards."""
        wrong = 0
        with still(net):
            for where in clean.batches(512):
                x, y = clean.pixels(where, job.device), clean.labels[where].to(job.device)
                noise = delta[where].to(job.device)
                for _ in range(self.noise_steps):
                    z = (x + noise).clamp(0, 1)
                    z = z - self.step_size * sign_of_gradient(net, z, y)
                    noise = (z - x).clamp(-self.epsilon, self.epsilon)
                with torch.no_grad():
                    wrong += int((net(x + noise).argmax(1) != y).sum())
                delta[where] = noise.cpu()
        return wrong / len(clean)
