"""What the documents say is true: links lead somewhere, tables are generated, commands exist, entries are documented."""

import importlib
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
from conftest import call_bench, tiny

from unlearnable_bench.registry import CATALOGS, Job
from unlearnable_bench.results import Records

ROOT = Path(__file__).parent.parent
GENERATE = runpy.run_path(str(ROOT / "docs" / "generate.py"), run_name="generate")
DOCUMENTS = GENERATE["documents"]()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path):
    """Relative links are files of the repository."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if not target.startswith("http"):
            assert (path.parent / target.split("#")[0]).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
@pytest.mark.slow
def test_generated_parts_are_what_the_program_prints(path):
    """No number in a document was typed by hand; `make docs` mends a failure."""
    text = path.read_text(encoding="utf-8")
    assert GENERATE["generated"](text) == text


def test_schemas_of_the_reference_are_those_of_the_program():
    """A program of somebody else may check records by them; `make docs` mends a failure."""
    schemas = GENERATE["schemas"]()
    assert {path.name for path in schemas} == {"record.schema.json", "submission.schema.json"}
    for path, text in schemas.items():
        assert path.read_text(encoding="utf-8") == text


def test_every_document_is_listed_in_the_index():
    """A page that no other page leads to is never read."""
    listed = set()
    for index in (ROOT / "docs" / "README.md", ROOT / "docs" / "explanation" / "decisions" / "README.md"):
        targets = re.findall(r"\]\(([^)#]+\.md)", index.read_text(encoding="utf-8"))
        listed |= {(index.parent / target).resolve() for target in targets} | {index}
    assert {path for path in DOCUMENTS if (ROOT / "docs") in path.parents} <= listed


@cache
def help_of(*name):
    return call_bench(*name, "--help", environment={"COLUMNS": "200"})[0]


def commands(path):
    blocks = re.findall(r"```\w*\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL)
    inline = re.findall(r"`(bench [^`\n]+)`", path.read_text(encoding="utf-8"))
    lines = [line.partition("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in [*lines, *inline] if line.startswith("bench ")]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_in_a_document_exists_with_its_options(path):
    """A reader copies commands; a renamed option must not stay behind in a document."""
    for line in commands(path):
        words = shlex.split(line)[1:]
        name = words[:2] if words[0] in ("data", "poisons") else words[:1]
        if name[0].isupper() or "..." in line:
            continue
        for option in (word.partition("=")[0] for word in words if word.startswith("--")):
            assert option in help_of(*name), line


def test_the_package_of_the_tutorial_is_an_attack_that_keeps_its_budget(tmp_path, monkeypatch):
    """A reader types it off; its entry point names its class, and its poison passes the check of the store."""
    text = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
    project = tomllib.loads(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])["project"]
    (tmp_path / "my_attack.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module, name = project["entry-points"]["bench.attacks"]["bands"].split(":")
    attack = getattr(importlib.import_module(module), name)()
    clean = tiny()
    delta = attack.craft(clean, Job())
    poisoned = (clean.pixels(slice(None)) + delta).mul(255).round().clamp(0, 255).byte()
    assert delta.dtype.is_floating_point and delta.shape == clean.images.shape
    assert attack.budget.measure(clean.images, poisoned) > 0
    assert attack.budget.holds(clean.images, poisoned)


def test_every_command_has_help_with_an_example():
    """`--help` alone must be enough to use a command."""
    from typer.main import get_command

    from unlearnable_bench.benchmark.cli import app

    def walk(command, path):
        for name, child in getattr(command, "commands", {}).items():
            yield from walk(child, [*path, name])
        if not getattr(command, "commands", {}):
            yield path, command

    found = list(walk(get_command(app), ["bench"]))
    assert len(found) > 12
    for path, command in found:
        assert "Example" in command.help, path
        assert " ".join(path) in command.help, path
        assert any("--json" in parameter.opts for parameter in command.params), path


@pytest.mark.parametrize("kind", CATALOGS)
def test_every_entry_says_what_it_does_and_where_it_is_from(kind):
    """A row without a source cannot be trusted."""
    for row in CATALOGS[kind].rows:
        assert len(row.summary) > 10, row.name
        if kind == "attacks":
            assert row.paper, row.name


def test_requirements_are_ranges_and_the_constraints_pin_each_of_them():
    """Users get ranges, CI gets the tested set."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = project["optional-dependencies"]
    wanted = project["dependencies"] + groups["dev"] + groups["docs"]
    pinned = {line.split("==")[0].lower() for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line}
    for requirement in wanted:
        name = re.split(r"[<>=!~]", requirement)[0].lower()
        assert ">=" in requirement
        assert "==" not in requirement
        assert name in pinned, name


def test_published_records_are_whole_and_from_a_clean_tree():
    """A number in results/records/ was written by the program, from a commit, and never edited."""
    records = Records(ROOT / "results" / "records")
    for record in records:
        assert record.commit or record.id in records.origins, record.id  # others may have measured with an installed wheel
        assert not record.commit.endswith("-dirty"), record.id


FOLDERS = ("benchmark", "registry", "poisons", "results", "leaderboard")


@pytest.mark.slow
def test_the_wheel_holds_one_package_with_tables_and_templates_and_no_records(tmp_path):
    """An installed wheel works in an empty folder."""
    source = tmp_path / "source"  # a copy: building leaves files behind, and finds files that earlier builds left
    skipped = shutil.ignore_patterns(".*", "build", "*.egg-info", "__pycache__", "quick-run")
    shutil.copytree(ROOT, source, ignore=skipped)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"unlearnable_bench"}
    ours = {name.removeprefix("unlearnable_bench/") for name in names}
    assert {"__init__.py", "py.typed", "results/tables/quick.toml"} <= ours
    assert {"results/claims.toml", "results/papers/d-vae/paper.toml", "benchmark/cost.toml"} <= ours
    assert {f"results/papers/d-vae/table-2.{ending}" for ending in ("toml", "csv")} <= ours
    assert {f"leaderboard/templates/{page}.html" for page in ("page", "printed", "papers", "head")} <= ours
    assert {f"{package}/py.typed" for package in FOLDERS} <= ours
    assert {path.relative_to(ROOT).as_posix() for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")} <= ours
    assert not [name for name in names if "/records/" in name or "/cache/" in name]


@pytest.mark.parametrize("kind", CATALOGS)
def test_every_parameter_says_what_it_means(kind):
    """`bench show` and the pages print what stands behind a field; a name alone, `steps`, says nothing."""
    silent = [
        f"{row.name}.{field.name}"
        for row in CATALOGS[kind].rows
        for field in row.fields
        if not field.hidden | bool(field.comment)
    ]
    assert not silent
