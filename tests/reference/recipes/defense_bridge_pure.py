"""BridgePure: times, loss and the way back of the bridge, with a function in the place of the network."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry._bridge import bridge_loss, way_back
from unlearnable_bench.registry.defenses.bridge_pure import PurifyingBridge

REPOSITORY = "EhanW/bridge-pure"
FUNCTION = "ddbm.karras_diffusion.KarrasDenoiser.training_bridge_losses, karras_sample"
SEED = 0
TOLERANCE = 1e-5
REASON = "the official times are float32"
SAMPLES, SHAPE = 5, (2, 3, 4, 4)
TIMES = (0.0021, 3.0, 79.5)  # at which losses are compared


def given(rng: np.random.Generator) -> list[torch.Tensor]:
    """Clean and protected images in [-1, 1], the noise of the losses and of every step."""
    clean = rng.uniform(-1, 1, SHAPE)
    protected = (clean + rng.normal(0, 0.1, SHAPE)).clip(-1, 1)
    draws = [rng.normal(size=SHAPE) for _ in range(SAMPLES + 1)]
    return [torch.from_numpy(values.astype(np.float32)) for values in (clean, protected, *draws)]


def network(x: torch.Tensor, clock: torch.Tensor, xT: torch.Tensor) -> torch.Tensor:  # noqa: N803  (the code's name)
    """An answer that depends on all it is told."""
    return torch.tanh(x) + 0.5 * xT + torch.sin(clock / 250).view(-1, 1, 1, 1)


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("piq"):
        from ddbm import karras_diffusion as code

    settings = {"weight_schedule": "bridge_karras", "pred_mode": "ve", "loss_norm": "none"}
    diffusion = code.KarrasDenoiser(**settings)
    clean, protected, noise, *draws = given(rng)
    told, left = {"xT": protected}, iter(draws)
    losses = [diffusion.training_bridge_losses(network, clean, torch.full((2,), time), told, noise)["loss"] for time in TIMES]
    with patch.object(code.th, "randn_like", lambda like: next(left)):
        images, _, _ = code.karras_sample(
            diffusion, network, protected, None, SAMPLES, model_kwargs=told, churn_step_ratio=0.33, guidance=0.5
        )
    times = code.get_sigmas_karras(40, 0.002, 80 - 1e-4)
    return {"losses": torch.stack(losses).numpy(), "images": images.numpy(), "times": times.numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    clean, protected, noise, *draws = given(rng)
    left = iter(draws)
    losses = [bridge_loss(network, clean, protected, torch.full((2, 1, 1, 1), time), noise) for time in TIMES]
    images = PurifyingBridge(samples=SAMPLES).led_back(network, protected, lambda like: next(left))
    times = np.array(way_back(40), np.float32)
    return {"losses": torch.stack(losses).numpy(), "images": images.numpy(), "times": times}
