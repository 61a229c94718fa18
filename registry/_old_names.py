"""Plug-ins that import our packages by the names that these once had at the top level: what to write instead.

A package `registry` of the plug-in's own, or of another project, is none of our business.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

from unlearnable_bench.registry.contract import EntryError

PACKAGES = ("benchmark", "leaderboard", "poisons", "registry", "results")
HERE = Path(__file__).parent.parent  # a checkout: from its root the old names can be imported, as a second copy


def refuse(tree: ast.Module) -> None:
    """Refuse a source that imports one of our packages by its old name. EntryError says what to write."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            names = ", ".join(alias.name for alias in node.names)
            _check(str(node.module), f"from {node.module} import {names}", names)


def advice(error: BaseException) -> str:
    """Return what to write where an import failed because of an old name, with a semicolon before it; else ''."""
    name = error.name if isinstance(error, ImportError) else None
    if name is None or not _is_ours(name):
        return ""
    return f"; {name} is now unlearnable_bench.{name}: write `from unlearnable_bench import ...`"


def _check(module: str, line: str, names: str) -> None:
    if _is_ours(module):
        home = "unlearnable_bench" if module == "registry" else f"unlearnable_bench.{module}"
        raise EntryError(f"it says `{line}`; write `from {home} import {names}`")


def _is_ours(module: str) -> bool:
    top = module.partition(".")[0]
    if top not in PACKAGES:
        return False
    spec = importlib.util.find_spec(top)
    return spec is None or HERE in Path(spec.origin or "").parents
