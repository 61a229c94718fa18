"""The loss of SimSiam: two views through projection and predictor, each against the other, which stands still."""

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays
from torch import Tensor, nn

from unlearnable_bench.registry._contrastive import SimSiamObjective

REPOSITORY = "renjie3/TUE"
FUNCTION = "unsupervised.simsiam.methods.SimSiam.simsiam.SimSiamModel.forward"
SEED = 0
TOLERANCE = 1e-5
REASON = "ours takes cosines in float32 and has no biases in front of normalisations, where they have no effect"
WIDTH = 8


class Backbone(nn.Module):
    """Gives features as they are; `head` says how wide they are."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 2)

    def features(self, x: Tensor) -> Tensor:
        return x

    forward = features


def given(rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Features of two views, (B, D)."""
    first, second = (torch.from_numpy(rng.normal(size=(6, WIDTH))) for _ in range(2))
    return first.requires_grad_(True), second.requires_grad_(True)


def put(rng: np.random.Generator, projection: nn.Sequential, predictor: nn.Sequential) -> None:
    """Draw the weights of both heads; biases in front of a normalisation have no effect and are zero."""
    for module in (*projection, *predictor):
        for name, value in module.named_parameters():
            shape = tuple(value.shape)
            drawn = rng.normal(0, shape[-1] ** -0.5, shape) if len(shape) > 1 else np.full(shape, float(name == "weight"))
            value.data.copy_(torch.from_numpy(drawn))


def arrays(loss: Tensor, views: tuple[Tensor, Tensor]) -> Arrays:
    first, second = torch.autograd.grad(loss, views)
    return {"loss_and_first": torch.cat([loss.detach()[None], first.flatten()]).numpy(), "second": second.numpy()}


def official(rng: np.random.Generator) -> Arrays:
    networks = "unsupervised.simsiam.networks"
    folder = "unsupervised.simsiam.simsiam_utils_folder"
    missing = (
        "warmup_scheduler",
        "tqdm",
        f"{networks}.resnet_org",
        f"{networks}.resnet_cifar",
        f"{folder}.util",
        f"{folder}.knn",
    )
    with inputs.absent(*missing):
        from unsupervised.simsiam.methods import base
        from unsupervised.simsiam.methods.SimSiam import simsiam

        base.model_dict_cifar = {"given": (Backbone, WIDTH)}
        net = simsiam.SimSiamModel("simsiam", "given", "cifar10").double().train()
    views = given(rng)
    put(rng, net.proj_head, net.pred_head)
    return arrays(net(*views), views)


def ours(rng: np.random.Generator) -> Arrays:
    net = SimSiamObjective(Backbone()).double().train()
    views = given(rng)
    put(rng, net.project, net.predict)
    return arrays(net(*views), views)
