"""Gaussian noise on the weights of a network: for poisons that hold for networks nearby, and for what can be said of those."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unlearnable_bench.registry._crafting import Crafting
from unlearnable_bench.registry._persistent_noise import Rounds
from unlearnable_bench.registry._steps import slope

HALF = 0.5  # part of the images that a surrogate has right before noise on its weights begins


@contextmanager
def blurred(net: nn.Module, deviation: float, generator: torch.Generator) -> Iterator[None]:
    """Add Gaussian noise to all parameters, and take it away again to the last bit; at a deviation of 0 draw nothing."""
    if not deviation:
        yield
        return
    kept = [(parameter, parameter.detach().clone()) for parameter in net.parameters()]
    for parameter, _ in kept:
        draw = torch.randn(parameter.shape, generator=generator, device=parameter.device, dtype=parameter.dtype)
        parameter.data.add_(draw, alpha=deviation)
    try:
        yield
    finally:
        for parameter, before in kept:
            parameter.data.copy_(before)


@dataclass(frozen=True)
class BlurredRounds(Rounds):
    """Rounds of noise that persists, against a surrogate with noisy weights once it has half of the images right."""

    deviations: tuple[float, ...] = (0.0,)  # of the noise on the weights, one after another in every step
    draws: int = 1  # of it, for each deviation of a training step
    noise_draws: int = 1  # the same for a step of the noise
    is_blurred: bool = False

    def after(self, error: float) -> BlurredRounds:
        return replace(self, is_blurred=self.is_blurred or error < HALF)

    @property
    def passes(self) -> int:
        several = sum(self.noise_draws if deviation else 1 for deviation in self.deviations)
        return 2 * self.noise_steps * (several if self.is_blurred else 1)

    def lower(self, run: Crafting, net: nn.Module, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """Return the noise of a batch after a step for each deviation, down the mean slope over the draws."""
        if not self.is_blurred:
            return super().lower(run, net, x, y, noise)
        z = (x + noise).clamp(0, 1)
        for deviation in self.noise_steps * self.deviations:
            z = z - self.step_size * self._slope(run, net, z, y, deviation).sign()
            noise = (z - x).clamp(-self.epsilon, self.epsilon)
            z = (x + noise).clamp(0, 1)
        return noise

    def _slope(self, run: Crafting, net: nn.Module, z: Tensor, y: Tensor, deviation: float) -> Tensor:
        total = torch.zeros_like(z)
        for _ in range(self.noise_draws if deviation else 1):
            with blurred(net, deviation, run.device_generator):
                total += slope(net, z, y)
        return total

    def learn(self, run: Crafting, net: nn.Module, optimizer: torch.optim.Optimizer, rows: Tensor, noise: Tensor) -> float:
        """Take a training step for each deviation, on the mean loss over the draws; return the last loss."""
        if not self.is_blurred:
            return super().learn(run, net, optimizer, rows, noise)
        x, y = run.batch(rows)
        x = x + noise.to(run.device)
        net.train()
        for deviation in self.deviations:
            loss = self._descend(run, net, optimizer, x, y, deviation)
        return loss

    def _descend(
        self, run: Crafting, net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, deviation: float
    ) -> float:
        optimizer.zero_grad()
        for _ in range(self.draws):  # at a deviation of 0 too: each pass moves the running statistics of normalization
            with blurred(net, deviation, run.device_generator):
                loss = F.cross_entropy(net(x).float(), y)
                (loss / (len(self.deviations) * self.draws)).backward()
                nn.utils.clip_grad_norm_(net.parameters(), self.clip)
        optimizer.step()
        run.count(3 * self.draws, len(y))
        return float(loss.detach())
