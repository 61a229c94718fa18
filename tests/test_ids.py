"""Ids that last: a field that is added later renames no cell, no poison and no record."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import in_process

SOURCE = Path(__file__).parent.parent
PACKAGES = ("benchmark", "poisons", "registry", "results")

ADDED = {  # file: (a line of it, what takes its place: a field more, which the entry says came later)
    "registry/attacks/lsp.py": (
        "    patch: int = 8  # side",
        "    glow: float = 0.0\n    later = {'glow': 0}\n    patch: int = 8  # side",
    ),
    "registry/attacks/em.py": (
        "    epsilon: float = 8 / 255",
        "    glow: float = 0.0\n    later = {'glow': 0.0}\n    epsilon: float = 8 / 255",
    ),
    "registry/defenses/jpeg.py": (
        "    quality: int = 10",
        "    chroma: str = 'half'\n    later = {'chroma': 'half'}\n    quality: int = 10",
    ),
    "registry/protocols/toy.py": (
        "    threads: int = 1",
        "    threads: int = 1\n    wave: bool = False\n    later = {'wave': False}",
    ),
    "registry/contract.py": (
        "    def varied(",
        "    smoothing: float = 0.0\n    marks: tuple[float, ...] = ()\n"
        "    later = {**later, 'smoothing': 0.0, 'marks': ()}\n\n    def varied(",
    ),
    "registry/analyses/separability.py": (
        "    steps: int = 500",
        "    rounds: int | None = None\n    later = {'rounds': None}\n    steps: int = 500",
    ),
    "registry/architectures/small_cnn.py": (
        '@ARCHITECTURES.register("small-cnn")\ndef small_cnn(num_classes: int, in_channels: int = 3, image_size: int = 32)',
        '@ARCHITECTURES.register("small-cnn", later={"width": 16})\n'
        "def small_cnn(num_classes: int, in_channels: int = 3, image_size: int = 32, width: int = 16)",
    ),
    "registry/datasets/digits.py": (
        '@DATASETS.register("digits")\ndef digits(root: Path)',
        '@DATASETS.register("digits", later={"noise": 0.02})\ndef digits(root: Path, noise: float = 0.02)',
    ),
    "results/cell.py": (
        '    @model_validator(mode="before")',
        "    shift: float = 0.5\n    later: ClassVar[Mapping[str, Any]] = {**later, 'shift': 0.0}\n\n"
        '    @model_validator(mode="before")',
    ),
}

TOLD = """
    import json, sys
    from benchmark.grid import Task
    from registry import data, resolve
    from results import Cell, Record
    from results.cell import Part

    def parts(kind, item):
        return tuple(Part(name=p.name, fields=dict(p.fields), text=p.text) for p in resolve(kind, item))

    def cell(protocol="toy", dataset="digits", attack="lsp", defense="jpeg", architecture="small-cnn", **more):
        single = {"protocol": protocol, "dataset": dataset, "architecture": architecture}
        found = {axis: parts(axis + "s", item)[0] for axis, item in single.items()}
        measure = parts("analyses", more.pop("measure"))[0] if "measure" in more else "accuracy"
        found |= {"attack": parts("attacks", attack), "defense": parts("defenses", defense), "measure": measure}
        return Cell(**found, **more)

    def told(changes):
        one = cell(**changes)
        task = Task.of(one, {})
        read = Cell.model_validate_json(one.model_dump_json())
        assert read == one and read.id == one.id, (read, one)
        purified = task.purified and task.purified.key
        keys = [one.id, one.texts, one.measured, task.poison.key, task.poison.folder, purified, data._key(task.dataset)]
        return keys + [json.dumps(one.model_dump(mode="json"), sort_keys=True)]

    print(json.dumps([told(changes) for changes in json.loads(sys.argv[1])]))
"""
PLAIN = [
    {},
    {"attack": "em+swap", "measure": "separability"},
    {"attack": "ops-em", "protocol": "simclr", "defense": "grayscale", "architecture": "resnet18", "seed": 3},
    {"protocol": "dvae@0.1", "dataset": "cifar10", "attack": "em(epsilon=4/255,seed=0)", "defense": "jpeg(quality=50)+at"},
]
SPOKEN = [  # a later field with another value than its neutral one
    {"attack": "lsp(glow=0.5)"},
    {"defense": "jpeg(chroma=full)"},
    {"protocol": "toy(smoothing=0.1)"},
    {"protocol": "toy(wave=true)"},
    {"measure": "separability(rounds=3)"},
    {"architecture": "small-cnn(width=32)"},
    {"dataset": "digits(noise=0)"},
    {"attack": "lsp+swap", "shift": 0.25},
]


def with_more_fields(folder: Path) -> Path:
    """A copy of the program in which one entry of each kind, two base classes and the cell have a field more."""
    for package in PACKAGES:
        shutil.copytree(SOURCE / package, folder / package, ignore=shutil.ignore_patterns("records", "__pycache__", "papers"))
    for file, (line, changed) in ADDED.items():
        replace(folder / file, line, changed)
    return folder


def replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, f"{path.name} has {old!r} {text.count(old)} times"
    path.write_text(text.replace(old, new))


@pytest.fixture(scope="module")
def grown(tmp_path_factory):
    return with_more_fields(tmp_path_factory.mktemp("grown"))


def told(program: Path, cells: list) -> list:
    """What a copy of the program makes of cells: ids, texts, keys of poisons and of purified sets, records."""
    return json.loads(in_process(TOLD, json.dumps(cells), site=program, PYTHONSAFEPATH="1"))  # not of the working directory


def test_a_field_that_came_later_renames_nothing(grown):
    """Thousands of records are published under their ids, and every poison under its key: a new option of a method must
    leave both as they were, and the texts, and what is written into records."""
    assert told(grown, PLAIN) == told(SOURCE, PLAIN)


def test_a_later_field_with_another_value_gives_another_cell(grown):
    """The neutral value alone is left out: what is measured with the option must never pass for what was without."""
    plain, *rest = [row[0] for row in told(grown, [{}, *SPOKEN])]
    assert len({plain, *rest}) == len(SPOKEN) + 1
