"""Class-wise noise of Huang et al.: one round, two training steps of the surrogate and a pass over three batches."""

import sys
import tempfile
from contextlib import chdir
from types import SimpleNamespace
from unittest.mock import MagicMock, patch

import numpy as np
import torch
from reference import inputs
from reference.recipes.attack_em import weights
from reference.vectors import Arrays

from unlearnable_bench.registry import ImageSet
from unlearnable_bench.registry._persistent_noise import move_classes
from unlearnable_bench.registry._steps import still
from unlearnable_bench.registry._surrogates import descent_of
from unlearnable_bench.registry.attacks.em_class import ClassWise

REPOSITORY = "HanxunH/Unlearnable-Examples"
FUNCTION = "perturbation.universal_perturbation, trainer.Trainer.train_batch"
SEED = 1
TOLERANCE = 1e-6
REASON = "float64 on both sides, but for our loss and their noise, which pass through float32"
BATCHES = torch.arange(18).split(6)
SCRIPT = ["perturbation.py", "--train_step=2", "--universal_stop_error=2", "--universal_train_target=train_dataset"]


def given(rng: np.random.Generator) -> tuple[ImageSet, torch.nn.Module]:
    """Images with labels in no order, and the surrogate."""
    clean = inputs.image_set(rng, 18)
    labels = torch.from_numpy(rng.permutation(clean.labels.numpy()))
    return ImageSet(clean.images, labels, clean.num_classes), inputs.network(rng)


def official(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    with (
        inputs.absent("mlconfig", "torchvision", "dataset", "evaluator"),
        patch.object(sys, "argv", [*SCRIPT, f"--config_path={sys.path[0]}/configs/cifar10"]),
        tempfile.TemporaryDirectory() as folder,
        chdir(folder),  # the script writes its log where it is started
    ):
        import perturbation
        import toolbox
        import trainer

        x = inputs.pixels(clean)
        loader = [(x[rows], clean.labels[rows]) for rows in BATCHES]
        perturbation.dataset.DatasetGenerator().getDataLoader.return_value = {"train_dataset": loader}
        criterion = torch.nn.CrossEntropyLoss()
        learner = trainer.Trainer(criterion, {}, None, SimpleNamespace(log_frequency=1, grad_clip=5.0))
        optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, weight_decay=5e-4)  # configs/cifar10/resnet18.yaml
        tool = toolbox.PerturbationTool(epsilon=8 / 255, num_steps=1, step_size=0.8 / 255)
        start = torch.zeros(clean.num_classes, *clean.images.shape[1:])
        noise = perturbation.universal_perturbation(tool, learner, None, net, criterion, optimizer, None, start, MagicMock())
    return {"noise": noise.numpy(), "weights": weights(net)}


def ours(rng: np.random.Generator) -> Arrays:
    clean, net = given(rng)
    run, plan = inputs.run(clean), ClassWise().rounds()
    noise = torch.zeros(clean.num_classes, *clean.images.shape[1:], dtype=torch.float64)
    optimizer = descent_of(net, plan.lr, plan.weight_decay)
    for rows in BATCHES[:2]:
        plan.learn(run, net, optimizer, rows, noise[clean.labels[rows]])
    with still(net):
        for rows in BATCHES:
            move_classes(run, net, plan, rows, noise)
    return {"noise": noise.numpy(), "weights": weights(net)}
