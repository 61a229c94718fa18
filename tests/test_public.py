"""The public interface: what a plug-in imports, and that it is all a plug-in needs."""

import ast
from pathlib import Path

import pytest
from conftest import in_process, plug_in

import unlearnable_bench
from unlearnable_bench import registry

EXAMPLE = Path(__file__).parent.parent / "examples/bench-checkerboard/src/bench_checkerboard.py"


SCRIPTS = {"PoisonedSet", "TrainingScore", "craft", "evaluate", "load", "purify"}  # what plug-ins have no use for


def test_every_public_name_is_the_one_of_the_registry():
    """Two classes of one name would make a plug-in's entry no entry."""
    names = set(unlearnable_bench.__all__)
    assert names > SCRIPTS
    assert all(getattr(unlearnable_bench, name) is getattr(registry, name) for name in names - SCRIPTS)
    assert all(getattr(unlearnable_bench, name).__module__ == "unlearnable_bench.benchmark.interface" for name in SCRIPTS)


def test_a_name_that_is_not_there_is_an_error_as_of_any_module():
    with pytest.raises(AttributeError, match="has no attribute 'poison'"):
        _ = unlearnable_bench.poison


def test_importing_it_imports_no_torch():
    """Plug-ins are listed on machines where torch takes seconds to load, or is broken."""
    code = "import sys, unlearnable_bench; print({'torch', 'numpy', 'pandas', 'pydantic'} & set(sys.modules))"
    assert in_process(code).strip() == "set()"


def test_the_example_needs_nothing_else():
    """What people copy shows the whole of what they have to know."""
    modules = [node.module for node in ast.walk(ast.parse(EXAMPLE.read_text())) if isinstance(node, ast.ImportFrom)]
    ours = {module for module in modules if module.startswith("unlearnable_bench")}
    assert ours == {"unlearnable_bench"}


PLUS = """
from dataclasses import dataclass
import torch
from unlearnable_bench import Attack, Budget, Paper
@dataclass(frozen=True)
class Plus(Attack):
    epsilon: float = 4 / 255  # linf radius, pixel units
    paper = Paper("Plus", venue="nowhere", url="")
    @property
    def budget(self):
        return Budget("linf", self.epsilon)
    def craft(self, clean, job):
        return torch.full(clean.images.shape, STEP / 255)
"""


def test_an_old_import_that_only_an_import_meets_says_what_to_write(tmp_path):
    """One in a function, or in a second file, cannot be read from the source of the entry."""
    source = "if True:\n    from registry import STEP\n" + PLUS
    plug_in(tmp_path, "bench-plus", source, "[bench.attacks]\nplus = bench_plus:Plus\n")
    code = """
        from unlearnable_bench import ATTACKS
        assert not ATTACKS.entry("plus").error
        ATTACKS["plus"]
    """
    said = in_process(code, site=tmp_path, check=False, PYTHONSAFEPATH="1")
    assert "; registry is now unlearnable_bench.registry: write `from unlearnable_bench" in said


def test_a_plug_in_may_have_packages_called_as_ours(tmp_path):
    """An author's own project has a `registry`, and a file of results."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/results.py").write_text("PATH = 'of the author'\n")
    source = "from registry import STEP\nfrom results import PATH\n" + PLUS
    site = tmp_path / "site"
    (site / "registry").mkdir()
    (site / "registry/__init__.py").write_text("STEP = 4\n")
    plug_in(site, "bench-plus", source, "[bench.attacks]\nplus = bench_plus:Plus\n")
    code = """
        import sys
        sys.path.append(sys.argv[1])
        from conftest import craft, tiny
        from unlearnable_bench import ATTACKS
        print(float(craft(ATTACKS["plus"](), tiny()).max()) * 255)
    """
    assert round(float(in_process(code, Path(__file__).parent, site=site, PYTHONSAFEPATH="1")), 3) == 4
