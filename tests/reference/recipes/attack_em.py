"""Sample-wise noise of Huang et al.: the descent of one pass, and one training step of the surrogate."""

from types import SimpleNamespace

import numpy as np
import torch
from reference import inputs
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import descent_of
from unlearnable_bench.registry.attacks.em import ErrorMinimizing

REPOSITORY = "HanxunH/Unlearnable-Examples"
FUNCTION = "toolbox.PerturbationTool.min_min_attack, trainer.Trainer.train_batch"
SEED = 0
TOLERANCE = 1e-6
REASON = "noise is float64 on both sides; our training step takes its loss in float32"
EPSILON, STEPS = 8 / 255, 20


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.Tensor, torch.nn.Module]:
    """Images, their noise before the pass, and the surrogate."""
    clean = inputs.image_set(rng)
    return clean, inputs.noise(rng, clean.images.shape, EPSILON), inputs.network(rng)


def weights(net: torch.nn.Module) -> np.ndarray:
    """Every seventh weight and buffer of a network."""
    return torch.cat([value.double().flatten() for value in net.state_dict().values()])[::7].numpy()


def official(rng: np.random.Generator) -> Arrays:
    with inputs.absent("mlconfig", "torchvision"):
        import toolbox
        import trainer

    clean, before, net = given(rng)
    x, y = inputs.pixels(clean), clean.labels
    tool = toolbox.PerturbationTool(epsilon=EPSILON, num_steps=STEPS, step_size=EPSILON / 10)
    criterion = torch.nn.CrossEntropyLoss()
    _, noise = tool.min_min_attack(x, y, net, None, criterion, random_noise=before)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)  # configs/cifar10/resnet18.yaml
    net.train()
    learner = trainer.Trainer(criterion, {}, None, SimpleNamespace(log_frequency=1, grad_clip=5.0))
    learner.train_batch(x + noise, y, net, optimizer)
    return {"noise": noise.numpy(), "weights": weights(net)}


def ours(rng: np.random.Generator) -> Arrays:
    clean, before, net = given(rng)
    run, plan = inputs.run(clean), ErrorMinimizing(epsilon=EPSILON).rounds(len(clean))
    with still(net):
        noise = plan.lower(run, net, inputs.pixels(clean), clean.labels, before)
    plan.learn(run, net, descent_of(net, plan.lr, plan.weight_decay), torch.arange(len(clean)), noise)
    return {"noise": noise.numpy(), "weights": weights(net)}
