"""Records what the official code of a method computes. Run by hand, never by CI; the official code stays where it is.

    python tests/reference/make.py attack.em --checkout ~/Unlearnable-Examples

The folder is a git checkout of the repository that the recipe names (`tests/reference/recipes/`); its commit is recorded.
What its code imports is either installed or stood in for by the recipe. Two need packages that ours does not: `attack.ntga`
jax 0.4 and neural-tangents 0.6.5, `attack.dune` scikit-image 0.26.
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from reference.vectors import Vector, recipe, stated


def commit_of(checkout: Path) -> str:
    """Return the commit of a git checkout."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def record(name: str, checkout: Path) -> Vector:
    """Run the official code of a vector."""
    module = recipe(name)
    versions = {"python": platform.python_version(), "numpy": np.__version__, "torch": torch.__version__}
    about = stated(module) | {"commit": commit_of(checkout), "versions": versions}
    sys.path.insert(0, str(checkout))
    return Vector(module.official(np.random.default_rng(module.SEED)), about)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", metavar="METHOD", help="<kind>.<method> or <kind>.<method>.<part>, as attack.em")
    parser.add_argument("--checkout", type=Path, required=True, help="the authors' repository")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    vector = record(asked.name, asked.checkout.resolve())
    path = vector.save(asked.name)
    print(f"{path}: {path.stat().st_size:,} bytes, {', '.join(vector.outputs)}")
    print("ours differs by", vector.errors(recipe(asked.name).ours(np.random.default_rng(vector.about["seed"]))))


if __name__ == "__main__":
    main()
