"""Prints how dense the code is: branches per statement, of each package and of its densest modules.

    python tests/density.py [--all]

It ends with exit code 1 where a bound is exceeded, or where `STILL_TOO_DENSE` names what no longer exceeds one.

Branches are counted in the syntax tree, so no line break helps: `if`, `for`, `while`, `except`, `assert`, `case`, ternaries,
operands of `and` and `or` beyond the first, and each `for` and `if` of a comprehension. Tests and tools are not counted.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = ("registry", "poisons", "results", "benchmark", "leaderboard")
OF_PACKAGE = 0.30  # branches per statement, at most
OF_MODULE = 0.40
FEW = 25  # statements: a share of fewer says nothing
STILL_TOO_DENSE: tuple[str, ...] = ()  # packages and modules that are to be mended; nothing is ever added
BRANCHES = (ast.If, ast.For, ast.While, ast.IfExp, ast.ExceptHandler, ast.Assert, ast.match_case)


@dataclass(frozen=True)
class Density:
    """How many statements and branches some code has."""

    statements: int
    branches: int

    @property
    def share(self) -> float:
        """Branches per statement."""
        return self.branches / max(self.statements, 1)

    def __add__(self, other: Density) -> Density:
        return Density(self.statements + other.statements, self.branches + other.branches)


def branches_of(node: ast.AST) -> int:
    """Return how many branches one node of the tree adds."""
    if isinstance(node, BRANCHES):
        return 1
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return 0


def density(source: str) -> Density:
    """Return the density of a module's source."""
    nodes = list(ast.walk(ast.parse(source)))
    statements = sum(isinstance(node, ast.stmt) for node in nodes)
    return Density(statements, sum(map(branches_of, nodes)))


def modules() -> dict[str, Density]:
    """Return the density of every module of the product, by its path."""
    paths = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): density(path.read_text(encoding="utf-8")) for path in paths}


def packages(found: dict[str, Density]) -> dict[str, Density]:
    """Return the density of every package."""
    total = dict.fromkeys(PACKAGES, Density(0, 0))
    for name, module in found.items():
        total[name.partition("/")[0]] += module
    return total


def too_dense(found: dict[str, Density]) -> list[str]:
    """Return the packages and modules above their bound, the densest first."""
    dense = {name: one for name, one in packages(found).items() if one.share > OF_PACKAGE}
    dense |= {name: one for name, one in found.items() if one.share > OF_MODULE and one.statements >= FEW}
    return sorted(dense, key=lambda name: -dense[name].share)


def complaints(dense: list[str]) -> list[str]:
    """Say what has become too dense, and what no longer is and has to leave the list of what still may be."""
    complaints = [f"{name} is too dense; split it by what its parts say" for name in dense if name not in STILL_TOO_DENSE]
    mended = [name for name in STILL_TOO_DENSE if name not in dense]
    return complaints + [f"{name} is no longer too dense; take it out of STILL_TOO_DENSE" for name in mended]


def main() -> int:
    found = modules()
    by_package = packages(found)
    dense = too_dense(found)
    print(f"branches per statement; at most {OF_PACKAGE:.2f} in a package, {OF_MODULE:.2f} in a module")
    for name, one in by_package.items():
        print(f"  {one.share:.3f}  {name}, {one.statements:,} statements")
    shown = found if "--all" in sys.argv else {name: found[name] for name in dense if name in found}
    for name, one in sorted(shown.items(), key=lambda pair: -pair[1].share):
        print(f"    {one.share:.3f}  {name}, {one.statements:,} statements")
    wrongs = complaints(dense)
    print("\n".join(wrongs), end="\n" if wrongs else "")
    return 1 if wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
