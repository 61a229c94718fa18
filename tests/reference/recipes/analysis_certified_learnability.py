"""The certificate of learnability: which of the sorted accuracies is the bound, at several distances."""

import math
from unittest.mock import MagicMock

import numpy as np
from reference import inputs
from reference.vectors import Arrays
from scipy.stats import binom, norm

from unlearnable_bench.registry.analyses.certified_learnability import CertifiedLearnability

REPOSITORY = "NeuralSec/certified-data-learnability"
FUNCTION = "certify.certify"
SEED = 43
TOLERANCE = 0.0
REASON = "an abstention, -1 in the code, is a bound of 1 here"
PART, DEVIATION, DISTANCES = 0.9, 0.25, (0.0, 0.01, 0.05, 0.1, 0.2, 0.3, 0.5)


def given(rng: np.random.Generator) -> list[float]:
    """Accuracies in ascending order."""
    return sorted(rng.uniform(0.1, 0.6, 400).tolist())


def official(rng: np.random.Generator) -> Arrays:
    scores = given(rng)
    certify = inputs.part_of("certify", "certify", norm=norm, binom=binom, math=math, logger=MagicMock())
    places = [certify(scores, PART, distance, DEVIATION) for distance in DISTANCES]
    return {"bounds": np.array([1.0 if place == -1 else scores[place] for place in places])}


def ours(rng: np.random.Generator) -> Arrays:
    scores = given(rng)
    plans = [CertifiedLearnability(part=PART, deviation=DEVIATION, distance=distance) for distance in DISTANCES]
    return {"bounds": np.array([plan.bound(scores) for plan in plans])}
