"""Learning rates of D-VAE's classifiers, plain and under adversarial training: the settings in its files."""

import importlib.util
from pathlib import Path

import numpy as np
import torch
from reference import rates
from reference.vectors import Arrays

REPOSITORY = "yuyi-sd/D-VAE"
FUNCTION = "configs/cifar10/resnet18.yaml, configs/cifar10/resnet18_madrys.yaml"
SEED = 0
TOLERANCE = 1e-12
REASON = "schedulers of torch as the settings name them; the sums of rounded cosines differ from the cosine itself"


def scheduled(name: str) -> np.ndarray:
    """Learning rates under a file of settings."""
    import yaml

    home = Path(importlib.util.find_spec("main_vae_disentangle").origin).parent
    settings = yaml.safe_load((home / f"configs/cifar10/{name}.yaml").read_text(encoding="utf-8"))
    fields = {key: settings["epochs"] if value == "$epochs" else value for key, value in settings["scheduler"].items()}
    kind = getattr(torch.optim.lr_scheduler, fields.pop("name"))
    return rates.of_epochs(settings["optimizer"]["lr"], settings["epochs"], lambda descent: kind(descent, **fields))


def official(rng: np.random.Generator) -> Arrays:
    return {"plain": scheduled("resnet18"), "adversarial": scheduled("resnet18_madrys")}


def ours(rng: np.random.Generator) -> Arrays:
    return {"plain": rates.ours("dvae"), "adversarial": rates.ours("dvae", adversarial=True)}
