"""Our steps against recorded results of the authors' code: `tests/reference/`."""

import numpy as np
import pytest
from reference import vectors
from reference.vectors import Vector

from unlearnable_bench.registry import CATALOGS
from unlearnable_bench.registry.entry import plural

NAMES = vectors.names()


@pytest.mark.parametrize("name", NAMES)
def test_our_step_gives_what_the_official_code_gave(name):
    """Our own slow versions prove that we agree with ourselves; this one, that we agree with the authors."""
    vector = Vector.load(name)
    ours = vectors.recipe(name).ours(np.random.default_rng(vector.about["seed"]))
    assert max(vector.errors(ours).values()) <= vector.about["tolerance"], vector.errors(ours)


@pytest.mark.parametrize("name", NAMES)
def test_one_value_that_is_off_is_seen(name):
    """No array is so large, and no tolerance so wide, that a fault in one value goes unseen; nor is an array of one value."""
    vector = Vector.load(name)
    for key, official in vector.outputs.items():
        off = official.astype(np.float64)
        off.flat[off.size // 2] += 3 * max(vector.about["tolerance"], 1e-12) * np.abs(official).max()
        assert vector.errors(vector.outputs | {key: off})[key] > vector.about["tolerance"]
        assert vector.about["tolerance"] < 0.05
        assert len(np.unique(official)) > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_vector_says_what_its_recipe_says(name):
    """The page is written from files: a recipe that was changed is recorded anew."""
    assert dict(Vector.load(name).about) | vectors.stated(vectors.recipe(name)) == dict(Vector.load(name).about)


def test_arrays_of_another_name_or_shape_are_no_agreement():
    """numpy would compare shapes that fit each other by repeating values."""
    vector = Vector({"noise": np.ones((2, 3))}, {})
    with pytest.raises(ValueError, match="the vector"):
        vector.errors({"other": np.ones((2, 3))})
    with pytest.raises(ValueError, match="shape"):
        vector.errors({"noise": np.ones((1, 3))})


@pytest.mark.parametrize("kind", vectors.KINDS)
def test_every_method_has_a_vector_or_a_reason(kind):
    """Who adds a method says how it was held against its authors' code."""
    assert vectors.unexplained(kind, CATALOGS[plural(kind)], NAMES, vectors.reasons(kind)) == []


def test_a_method_with_neither_is_named():
    """A vector of one kind does not cover a method of another, nor a method whose name begins alike."""
    assert vectors.unexplained("attack", ["em", "em-class", "ops"], ["attack.em.rem", "defense.em-class"], ["ops"]) == [
        "em-class"
    ]


@pytest.mark.parametrize("kind", vectors.KINDS)
def test_reasons_are_of_methods_that_exist_and_have_no_better(kind):
    """A reason that a vector has overtaken would stay on the page."""
    measured = {name.split(".")[1] for name in NAMES if name.startswith(f"{kind}.")}
    for method, reason in vectors.reasons(kind).items():
        assert method in CATALOGS[plural(kind)]
        assert reason["state"] in vectors.STATES
        assert reason["why"]
        assert method not in measured or reason["state"] == "deviates"
