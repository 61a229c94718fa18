"""ECLIPSE: the way back from a noise level, and the loss of the diffusion, with a function in the place of the network."""

from unittest.mock import patch

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry._improved_diffusion import CosineSchedule, cosine_betas, hybrid_loss
from unlearnable_bench.registry.defenses.eclipse import SparseDiffusion

REPOSITORY = "CGCL-codes/ECLIPSE"
FUNCTION = "improved_diff_utils.gaussian_diffusion.GaussianDiffusion"
SEED = 0
TOLERANCE = 1e-4
REASON = "the official start takes a number near 1 from 1 in float32; losses are within 1e-7"
LEVEL, SHAPE = 6, (2, 3, 4, 4)
STEPS = ((0, 3), (99, 3999))  # at which losses are compared, those of the first and the last level included


def given(rng: np.random.Generator) -> list[torch.Tensor]:
    """Images in [-1, 1] with values at both ends, and the noise of the start and of every step."""
    images = rng.uniform(-1.2, 1.2, SHAPE).clip(-1, 1)
    draws = [rng.normal(size=SHAPE) for _ in range(LEVEL + 1)]
    return [torch.from_numpy(values.astype(np.float32)) for values in (images, *draws)]


def network(x: torch.Tensor, step: torch.Tensor, **options: object) -> torch.Tensor:
    """The noise, and the place of the variance between its bounds."""
    return torch.cat([torch.tanh(3 * x), torch.sin(5 * x)], 1)


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("blobfile", "mpi4py"):
        from improved_diff_utils import gaussian_diffusion as code

    kinds = (code.ModelMeanType.EPSILON, code.ModelVarType.LEARNED_RANGE, code.LossType.RESCALED_MSE)
    names = ("model_mean_type", "model_var_type", "loss_type")
    betas = code.get_named_beta_schedule("cosine", 4000)
    diffusion = code.GaussianDiffusion(betas=betas, rescale_timesteps=True, **dict(zip(names, kinds, strict=True)))
    images, *noise = given(rng)
    kept = (1 - torch.from_numpy(diffusion.betas).float()).cumprod(dim=0)  # as runners/improved_diffusion.py starts
    x = images * kept[LEVEL - 1].sqrt() + noise[0] * (1.0 - kept[LEVEL - 1]).sqrt()
    draws = iter(noise[1:])
    with patch.object(code.th, "randn_like", lambda like: next(draws)):
        for level in reversed(range(LEVEL)):
            x = diffusion.p_sample(network, x, torch.tensor([level] * len(x)), clip_denoised=True)["sample"]
    losses = [diffusion.training_losses(network, images, torch.tensor(at), noise=noise[0])["loss"] for at in STEPS]
    return {"betas": betas[::100], "images": x.numpy(), "losses": torch.stack(losses).numpy()}


def ours(rng: np.random.Generator) -> Arrays:
    images, *noise = given(rng)
    schedule, draws = CosineSchedule.on(torch.device("cpu")), iter(noise)
    x = SparseDiffusion(level=LEVEL).sampled(network, schedule, images, lambda like: next(draws))
    losses = [hybrid_loss(network, schedule, images, noise[0], torch.tensor(at)) for at in STEPS]
    return {"betas": cosine_betas()[::100].numpy(), "images": x.numpy(), "losses": torch.stack(losses).numpy()}
