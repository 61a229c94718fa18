"""Who may import whom: the table of docs/explanation/architecture.md, kept true by reading the import lines."""

import ast
from collections import defaultdict
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "registry": set(),
    "poisons": {"registry"},
    "results": set(),
    "benchmark": {"registry", "poisons", "results"},
    "leaderboard": {"registry", "results"},
}
WINGS = ("tables", "formats", "pages", "publishing")  # of the leaderboard, from the ground up: each may import those before it
COMMAND = {ROOT / "benchmark" / "cli.py", *(ROOT / "benchmark" / "commands").glob("*.py")}  # `bench` puts all five together
HEAVY = {"torch", "torchvision", "timm"}
NEEDS_NO_TORCH = (
    *("registry/contract.py", "registry/training.py", "registry/spec.py", "registry/entry.py", "registry/catalog.py"),
    *("registry/_discovery.py", "registry/_from_source.py", "registry/_from_import.py", "registry/_literals.py"),
    *("registry/versions.py", "registry/child.py", "registry/_child_main.py", "poisons/recipe.py"),
)

COMMAND_NAME = "the command of that name, and the work that it calls"
SHARED_NAMES = {  # public names that two modules define, each with the reason why
    "DVae": "the recipe of the D-VAE paper, and its autoencoder, whose weights are in checkpoints under this name",
    "DisentanglingVae": "one paper made an attack and a defense of it",
    "Nothing": "the entry `none` of attacks, and that of defenses",
    "attach": COMMAND_NAME,
    "cancel": COMMAND_NAME,
    "craft": COMMAND_NAME,
    "expand_home": "`registry` and `results` import neither each other nor anything else of ours; each raises its own error",
    "load": "what scripts call, and what reads the images of a dataset for them",
    "ls": "`bench data ls` and `bench poisons ls`",
    "prune": COMMAND_NAME,
    "publish": COMMAND_NAME,
    "verify": "`bench data verify` and `bench poisons verify`",
}


def modules(path: Path, everywhere: bool = True) -> set[str]:
    """Full names of what a file imports; with `everywhere` also inside functions and for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports(path: Path, everywhere: bool = True) -> set[str]:
    """The same by packages: ours of `unlearnable_bench` by the names of their folders, others by their top level."""
    return {name.removeprefix("unlearnable_bench.").partition(".")[0] for name in modules(path, everywhere)}


FILES = sorted(path for package in MAY_IMPORT for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_imports_only_what_its_package_may(path):
    """A change to the victim's recipe must never change a poison, and rendering must need neither."""
    package = path.relative_to(ROOT).parts[0]
    allowed = set(MAY_IMPORT) if path in COMMAND else MAY_IMPORT[package] | {package}
    assert imports(path) & set(MAY_IMPORT) <= allowed


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.relative_to(ROOT).parts[0] in ("results", "leaderboard")] + [ROOT / name for name in NEEDS_NO_TORCH],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_planning_and_reporting_have_no_torch_at_their_top(path):
    """Records are read and pages rendered on machines without a GPU, and without the seconds that torch takes to load."""
    assert not imports(path, everywhere=path.relative_to(ROOT).parts[0] in ("results", "leaderboard")) & HEAVY


LEADERBOARD = sorted((ROOT / "leaderboard").rglob("*.py"))


def modules_imported(path: Path) -> set[str]:
    """The modules of the leaderboard that one of its files imports, also inside functions and for type checkers."""
    whole = {name.removeprefix("unlearnable_bench.") for name in modules(path)}
    named = whole | {name.rpartition(".")[0] for name in whole}
    files = {".".join(file.relative_to(ROOT).with_suffix("").parts) for file in LEADERBOARD if file.stem != "__init__"}
    return named & files


@pytest.mark.parametrize("path", LEADERBOARD, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_wing_of_the_leaderboard_imports_only_those_below(path):
    """Scores know no format, formats know no page, and pages do not know where they are published: four floors, no circle."""
    wing = path.relative_to(ROOT / "leaderboard").parts[0]
    if wing == "__init__.py":
        assert not modules_imported(path)
        return
    below = WINGS[: WINGS.index(wing) + 1]
    assert {module.split(".")[1] for module in modules_imported(path)} <= set(below)


def test_no_circle_of_imports_in_the_leaderboard():
    """A module can be read once all those that it imports have been read."""
    graph = {".".join(path.relative_to(ROOT).with_suffix("").parts): modules_imported(path) for path in LEADERBOARD}
    TopologicalSorter(graph).prepare()  # CycleError: names them


@pytest.mark.parametrize("folder", [*MAY_IMPORT, "tests", "docs", "examples"])
def test_our_packages_are_imported_by_their_installed_names_alone(folder):
    """From the root of a checkout `import registry` works too, and makes a second copy of every class."""
    bare = {path: modules(path) for path in (ROOT / folder).rglob("*.py")}
    found = {str(path): name for path, names in bare.items() for name in names if name.partition(".")[0] in MAY_IMPORT}
    assert not found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_own_files_leave_the_public_interface_to_others(path):
    """It imports the registry, and what the registry imports must not need it in turn."""
    names = {name for name in modules(path) if name.startswith("unlearnable_bench.")}
    assert all(name.split(".")[1] in MAY_IMPORT for name in names), names


def public_names(path: Path) -> set[str]:
    """The functions and classes at the top of a module that other modules may import."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")}


def test_a_public_name_means_one_thing_in_all_packages():
    """A search for a name finds one definition, and a reader need not look at the imports to know which is meant."""
    homes = defaultdict(list)
    for path in FILES:
        for name in public_names(path):
            homes[name].append(str(path.relative_to(ROOT)))
    shared = {name: paths for name, paths in homes.items() if len(paths) > 1}
    assert {name: paths for name, paths in shared.items() if name not in SHARED_NAMES} == {}, "rename one, or use the other"
    assert SHARED_NAMES.keys() - shared.keys() == set(), "these have one definition by now: take them off the list"


def test_only_one_file_imports_submitit():
    """Machines are the business of one file."""
    assert {path.name for path in FILES if "submitit" in imports(path)} <= {"schedule.py"}


def test_tests_reach_no_deeper_than_users_do():
    """No package but the five and the public interface lies at the top level, where a stray name would shadow another."""
    names = {p.name for p in ROOT.iterdir() if p.is_dir() and any(p.glob("*.py")) and not p.name.startswith(".")}
    assert names - {"tests", "examples", "docs", "build"} == {*MAY_IMPORT, "unlearnable_bench"}
    assert not list(ROOT.glob("*.py"))
