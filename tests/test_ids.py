"""Ids that last: a field that is added later renames no cell, no poison and no record."""

import dataclasses
import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from conftest import in_process, plug_in, poison, tiny
from golden.make import FILE, TABLES, Golden, Specs, resolved, today

from unlearnable_bench.benchmark import conformance
from unlearnable_bench.benchmark.task import Task
from unlearnable_bench.poisons.inventory import prune
from unlearnable_bench.poisons.recipe import PoisonRecipe
from unlearnable_bench.registry import CATALOGS, EntryError, data, outdated, resolve
from unlearnable_bench.registry._from_source import describe
from unlearnable_bench.registry.entry import Entry, plural
from unlearnable_bench.results import Cell
from unlearnable_bench.results.cell import Part as Stored
from unlearnable_bench.results.record import plain

SOURCE = Path(__file__).parent.parent
PACKAGES = ("unlearnable_bench", "benchmark", "poisons", "registry", "results")

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
        "    haze: float = 0.0\n    marks: tuple[float, ...] = ()\n"
        "    later = {**later, 'haze': 0.0, 'marks': ()}\n\n    def varied(",
    ),
    "registry/analyses/separability.py": (
        "    steps: int = 500",
        "    rounds: int | None = None\n    later = {'rounds': None}\n    steps: int = 500",
    ),
    "registry/architectures/small_cnn.py": (
        '@ARCHITECTURES.register("small-cnn", display_name="Small CNN")\n'
        "def small_cnn(num_classes: int, in_channels: int = 3, image_size: int = 32)",
        '@ARCHITECTURES.register("small-cnn", later={"width": 16})\n'
        "def small_cnn(num_classes: int, in_channels: int = 3, image_size: int = 32, width: int = 16)",
    ),
    "registry/datasets/digits.py": (
        '@DATASETS.register("digits", display_name="Handwritten digits", label="Digits")\ndef digits(root: Path)',
        '@DATASETS.register("digits", later={"noise": 0.02})\ndef digits(root: Path, noise: float = 0.02)',
    ),
    "results/cell.py": (
        '    @model_serializer(mode="wrap")',
        "    shift: float = 0.0\n    later: ClassVar[Mapping[str, Any]] = {**later, 'shift': 0.0}\n\n"
        '    @model_serializer(mode="wrap")',
    ),
}

TOLD = """
    import json, sys
    from unlearnable_bench.benchmark.task import Task
    from unlearnable_bench.registry import data, resolve
    from unlearnable_bench.results import Cell, Record
    from unlearnable_bench.results.cell import Part

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
        task = Task.of(one)
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
MOVED = {  # file: a default that changes
    "registry/attacks/lsp.py": ("glow: float = 0.0", "glow: float = 0.5"),
    "registry/defenses/jpeg.py": ("chroma: str = 'half'", "chroma: str = 'full'"),
    "registry/protocols/toy.py": ("wave: bool = False", "wave: bool = True"),
    "registry/contract.py": ("haze: float = 0.0", "haze: float = 0.1"),
    "registry/analyses/separability.py": ("rounds: int | None = None", "rounds: int | None = 3"),
    "registry/architectures/small_cnn.py": ("width: int = 16", "width: int = 32"),
    "registry/datasets/digits.py": ("noise: float = 0.02)", "noise: float = 0.1)"),
}
NEUTRAL = {
    "protocol": "toy(haze=0.0,wave=false)",
    "dataset": "digits(noise=0.02)",
    "attack": "lsp(glow=0.0)",
    "defense": "jpeg(chroma=half)",
    "architecture": "small-cnn(width=16)",
}
PUBLISHED = SOURCE / "results/records/d7370db905e2dbab.json"  # toy(epochs=32), lsp, jpeg
READ = """
    import json, sys
    from unlearnable_bench.benchmark.submissions.judging import judge
    from unlearnable_bench.benchmark.task import Task
    from unlearnable_bench.registry import outdated
    from unlearnable_bench.results import Cell, Record
    from unlearnable_bench.results.bundle import Examined

    content, record = json.loads(sys.argv[1]), Record.model_validate_json(sys.argv[2])
    found = {"same cell": record.cell.model_dump(mode="json") == json.loads(sys.argv[2])["cell"]}
    found["stale"] = outdated(record.versions, record.cell.parts)
    examined = Examined("", records={record.id: record})
    judge(examined, {})
    found["reasons"] = examined.reasons
    if content is not None:
        cell = Cell.model_validate(content)
        task = Task.of(cell)
        built = [part.build() for part in (task.protocol, *task.attack, *task.defense, task.analysis)]
        later = ("glow", "chroma", "wave", "haze", "marks", "rounds")
        found["values"] = {name: getattr(one, name) for one in built for name in later if hasattr(one, name)}
        found |= {"shift": cell.shift, "width": task.architecture.values["width"], "noise": task.dataset.values["noise"]}
        found["texts"] = [part.text for part in (*task.attack, *task.defense, task.dataset)]
    print(json.dumps(found))
"""
PLUG_IN = """
    from dataclasses import dataclass
    from unlearnable_bench.registry import Attack, Budget, Paper

    @dataclass(frozen=True)
    class Plus(Attack):
        'Plus: has two fields that came later.'
        deep: bool = False
        late: int = 3
        later = {"deep": False, "late": 3}

    @dataclass(frozen=True)
    class Far(dataclass(frozen=True)(type("Middle", (Attack,), {"later": {"soft": 0.0}}))):
        'Far: a base class that no source tells; it has to be imported.'
        soft: float = 0.5

    def net(num_classes, in_channels=3, image_size=32, width: int = 9):
        'Net: a function.'
    net.later = {"width": 8}
"""
FIELDS = """
    import json, sys
    from unlearnable_bench.registry import resolve
    parts = [resolve(kind, item)[0] for kind, item in json.loads(sys.argv[1])]
    print(json.dumps([[part.fields, part.text] for part in parts]))
"""
SPOKEN = [  # a later field with another value than its neutral one
    {"attack": "lsp(glow=0.5)"},
    {"defense": "jpeg(chroma=full)"},
    {"protocol": "toy(haze=0.1)"},
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


@pytest.fixture(scope="module")
def moved(grown, tmp_path_factory):
    """The same, where the defaults of the later fields are no longer their neutral values."""
    folder = tmp_path_factory.mktemp("moved") / "program"
    shutil.copytree(grown, folder)
    for file, (old, new) in MOVED.items():
        replace(folder / file, old, new)
    return folder


def told(program: Path, cells: list) -> list:
    """What a copy of the program makes of cells: ids, texts, keys of poisons and of purified sets, records."""
    return json.loads(answer(program, json.dumps(cells)))


@cache
def answer(program: Path, cells: str) -> str:
    return in_process(TOLD, cells, site=program, PYTHONSAFEPATH="1")  # not of the working directory


@pytest.mark.slow
def test_a_field_that_came_later_renames_nothing(grown):
    """Thousands of records are published under their ids, and every poison under its key: a new option of a method must
    leave both as they were, and the texts, and what is written into records."""
    assert told(grown, PLAIN) == told(SOURCE, PLAIN)


@pytest.mark.slow
def test_a_later_field_with_another_value_gives_another_cell(grown):
    """The neutral value alone is left out: what is measured with the option must never pass for what was without."""
    plain, *rest = [row[0] for row in told(grown, [{}, *SPOKEN])]
    assert len({plain, *rest}) == len(SPOKEN) + 1


@pytest.mark.slow
def test_a_changed_default_gives_a_new_id_and_the_neutral_value_given_gives_the_old_one(moved):
    """What is published under an id is what was measured, whatever a name alone means today; and it can be asked for."""
    before, after = told(SOURCE, PLAIN), told(moved, [*PLAIN, NEUTRAL])
    assert all(old[0] != new[0] for old, new in zip(before, after[:-1], strict=True))
    cell_id, texts, _, poison_key, _, purified, *_ = after[-1]
    assert (cell_id, poison_key, purified) == (before[0][0], before[0][3], before[0][5])
    asked = {axis: NEUTRAL[axis] for axis in ("protocol", "dataset", "attack", "defense", "architecture")}
    assert {axis: texts[axis] for axis in asked} == asked


@pytest.mark.slow
def test_a_record_without_a_later_field_is_read_as_it_was_measured(moved):
    """A cell that lacks the field was measured before there was one; running or judging it again must not take the default."""
    cell = told(SOURCE, [{"measure": "separability"}])[0][-1]
    found = json.loads(in_process(READ, cell, PUBLISHED.read_text(), site=moved, PYTHONSAFEPATH="1"))
    assert found["values"] == {"glow": 0.0, "chroma": "half", "wave": False, "haze": 0.0, "marks": [], "rounds": None}
    assert (found["shift"], found["width"], found["noise"]) == (0.0, 16, 0.02)
    assert found["texts"] == ["lsp(glow=0.0)", "jpeg(chroma=half)", "digits(noise=0.02)"]
    assert found["same cell"] and not found["stale"]


@pytest.mark.slow
def test_a_record_of_before_is_accepted_by_a_program_with_more_fields(grown):
    """People send records that they measured with the release before; its protocol has fewer fields."""
    found = json.loads(in_process(READ, json.dumps(None), PUBLISHED.read_text(), site=grown, PYTHONSAFEPATH="1"))
    assert found["reasons"] == []


def test_a_later_field_of_the_cell_has_its_neutral_value_as_its_default():
    """A record that lacks the field is read with the default; code that wants another value gives it."""
    assert {name: Cell.model_fields[name].default for name in Cell.later} == Cell.later


@pytest.mark.slow
def test_other_packages_say_which_of_their_fields_came_later(tmp_path):
    """Records of plug-ins are published too: class or function, read from its source or imported."""
    points = "[bench.attacks]\nplus = more:Plus\nfar = more:Far\n[bench.architectures]\nnet = more:net\n"
    plug_in(tmp_path, "more", PLUG_IN, points)
    items = [["attacks", "plus"], ["attacks", "plus(deep=true)"], ["attacks", "far"], ["attacks", "far(soft=0)"]]
    items += [["architectures", "net"], ["architectures", "net(width=8)"], ["architectures", "net(width=9)"]]
    found = json.loads(in_process(FIELDS, json.dumps(items), site=tmp_path))
    assert found[:2] == [[{}, "plus"], [{"deep": True}, "plus(deep=true)"]]
    assert found[2:4] == [[{"soft": 0.5}, "far"], [{}, "far(soft=0.0)"]]
    assert found[4:] == [[{"width": 9}, "net"], [{}, "net(width=8)"], [{"width": 9}, "net"]]


# What an entry may say


def entry(folder: Path, facts: str) -> Entry:
    """An attack with two fields, and what it states about them."""
    path = folder / "module.py"
    path.write_text(f"class Method(Attack):\n    epsilon: float = 8 / 255\n    mode: str = 'a'\n    {facts}\n")
    return describe("attacks", "method", "built-in", "module", "Method", path)


@pytest.mark.parametrize(
    ("facts", "sentence"),
    [
        ("later = {'epsilom': 0.0}", "attack method: `later` names no field of it: 'epsilom'; did you mean 'epsilon'?"),
        ("later = {'mode': 0}", "attack method: `later` says mode=0, where the field is a str"),
        ("later = {'epsilon': False}", "attack method: `later` says epsilon=False, where the field is a float"),
        ("revisions = {'modes=a': 2}", "attack method: `revisions` names no field of it: 'modes'; did you mean 'mode'?"),
        ("revisions = {'mode=3': 2}", "attack method: mode=3 is not a word"),
        ("revisions = {'mode': 2}", "expected key=value, found 'mode'"),
        ("revisions = {'': 2}", "attack method: a condition of `revisions` is empty; raise `version`"),
        ("revisions = {'mode=a': 1}", "attack method: revision 1 of mode=a; the first is 2"),
    ],
)
def test_what_names_no_field_is_refused_in_a_sentence(tmp_path, facts, sentence):
    """A misspelt name would rename what it is there to keep, and nobody would see it before the records are orphaned."""
    with pytest.raises(EntryError) as caught:
        entry(tmp_path, facts)
    assert sentence in str(caught.value)


def test_the_conformance_tests_say_what_came_later(tmp_path):
    """`bench check` shows it to the author of a plug-in, by the same rules that planning goes by."""
    made = entry(tmp_path, "later = {'mode': 'a'}; revisions = {'mode=b': 2}")
    for promises in conformance.PROMISES.values():
        assert promises[conformance.PROMISED_HISTORY](made) == "mode came later, 'a' before, revision 2 of mode=b"


# Corrections of some settings


def revised(monkeypatch, kind: str, name: str, revisions: dict[str, int], version: int = 0) -> None:
    """Let an entry of ours state revisions, or another version."""
    known = CATALOGS[kind].entry(name)
    changed = dataclasses.replace(known, facts={**known.facts, "revisions": revisions, "version": version or known.version})
    monkeypatch.setitem(CATALOGS[kind].__dict__, "_by_name", {**CATALOGS[kind]._by_name, name: [changed]})


def key(attack: str, dataset: str = "digits") -> str:
    return PoisonRecipe(resolve("datasets", dataset)[0], resolve("attacks", attack), 0).key


def a_cell(**items: str) -> Cell:
    usual = {"protocol": "quick", "dataset": "digits", "attack": "lsp", "defense": "none", "architecture": "small-cnn"}
    found = {}
    for axis, item in (usual | items).items():
        parts = tuple(Stored(name=part.name, fields=plain(part.fields), text=part.text) for part in resolve(plural(axis), item))
        found[axis] = parts if axis in ("attack", "defense") else parts[0]
    return Cell(**found)


CONCERNED = ["em(variant=lfu)", "em(variant=lfu)+swap", "ops-em(noise=em(variant=lfu))"]
UNCONCERNED = ["em", "em(variant=paper)", "lsp", "ops-em", "ops-em(noise=em)"]


def test_a_correction_of_some_settings_gives_new_keys_to_these_alone(monkeypatch):
    """A poison that is not concerned is still the one that is published; one that is must not be found under its old key."""
    old = {attack: key(attack) for attack in CONCERNED + UNCONCERNED}
    ids = {attack: a_cell(attack=attack).id for attack in CONCERNED + UNCONCERNED}
    revised(monkeypatch, "attacks", "em", {"variant=lfu": 2})
    assert [attack for attack in old if key(attack) != old[attack]] == CONCERNED
    assert {attack: a_cell(attack=attack).id for attack in ids} == ids, "an id names what was asked for, not how it is made"


def test_all_fields_of_a_condition_must_hold(monkeypatch):
    """A correction may concern a pair of settings; half of the pair is as published."""
    both, half = "em(variant=lfu,epsilon=4/255)", "em(variant=lfu)"
    old = key(both), key(half)
    revised(monkeypatch, "attacks", "em", {"variant=lfu,epsilon=4/255": 2})
    assert key(both) != old[0] and key(half) == old[1]


@pytest.mark.parametrize(
    ("kind", "name", "condition", "usual", "items"),
    [
        ("attacks", "em", "variant=lfu", {"attack": "em"}, {"attack": "em(variant=lfu)"}),
        ("attacks", "em", "variant=lfu", {"attack": "ops-em(noise=em)"}, {"attack": "ops-em(noise=em(variant=lfu))"}),
        ("defenses", "jpeg", "quality=50", {"defense": "jpeg+jpeg"}, {"defense": "jpeg+jpeg(quality=50)"}),
        ("protocols", "quick", "nesterov=true", {}, {"protocol": "quick(nesterov=true)"}),
    ],
)
def test_a_record_is_stale_where_a_revision_concerns_its_cell(monkeypatch, kind, name, condition, usual, items):
    """Published numbers that a correction does not touch stay; the others are shown as stale and run again."""
    noun = "analysis" if kind == "analyses" else kind[:-1]
    plain, concerned, was = a_cell(**usual), a_cell(**items), CATALOGS[kind].entry(name).version
    published = Task.of(concerned).versions()
    assert published[f"{noun}:{name}"] == str(was) and not outdated(published, concerned.parts)
    revised(monkeypatch, kind, name, {condition: 2})
    assert outdated(published, concerned.parts) == f"{noun}:{name} was version {was}, now it is {was}.2"
    assert not outdated(published, plain.parts), "of the same entries, but not of these settings"
    corrected = Task.of(concerned).versions()
    assert corrected[f"{noun}:{name}"] == f"{was}.2" and not outdated(corrected, concerned.parts)
    revised(monkeypatch, kind, name, {condition: 3})
    assert outdated(corrected, concerned.parts) == f"{noun}:{name} was version {was}.2, now it is {was}.3"
    revised(monkeypatch, kind, name, {}, version=was + 1)
    assert outdated(corrected, concerned.parts) == f"{noun}:{name} was version {was}.2, now it is {was + 1}"


def test_a_data_set_is_decoded_again_where_a_revision_concerns_it(monkeypatch):
    """Decoded images stay on the disk of every user, under a name that must change with what they are."""
    (small,), (large,) = resolve("datasets", "imagenet100(size=64)"), resolve("datasets", "imagenet100")
    before = data._key(small), data._key(large)
    revised(monkeypatch, "datasets", "imagenet100", {"size=64": 2})
    (small,), (large,) = resolve("datasets", "imagenet100(size=64)"), resolve("datasets", "imagenet100")
    assert data._key(small) != before[0] and data._key(large) == before[1]


def test_a_surrogate_that_is_corrected_gives_a_new_key(monkeypatch):
    """The poison is made against that network; its corrections are the poison's."""
    old = key("em")
    revised(monkeypatch, "architectures", "resnet18", {}, version=9)
    assert key("em") != old


def test_sets_of_an_older_revision_are_removed_and_the_others_kept(monkeypatch, tmp_path):
    """`bench poisons prune` frees what nobody will find any more."""
    for attack in ("random-noise(kind=sample)", "random-noise(kind=class)"):
        poison(tmp_path, attack, tiny())
    revised(monkeypatch, "attacks", "random-noise", {"kind=sample": 2})
    poison(tmp_path, "random-noise(kind=sample)", tiny())
    assert [row["why"] for row in prune(tmp_path)] == ["made by version 1 of random-noise, now it is 1.2"]
    assert len(list(tmp_path.glob("random-noise*"))) == 2


# The golden file

RULE = "raise the version of what changed it, then run `python tests/golden/make.py KIND:NAME`, which says what the rule is"


@pytest.fixture(scope="module")
def golden():
    return Golden.read()


@pytest.fixture(scope="module")
def specs(golden):
    return Specs(golden)


def test_every_part_of_the_golden_file_is_resolved_to_its_fields(golden, specs):
    """A field that is added without a neutral value, or a value that is read in another way, renames all that has it."""
    for kind, several in golden.parts.items():
        for spec, part in zip(several, specs.parts[kind], strict=True):
            assert plain(part.fields) == spec["fields"], f"{kind}: {spec['name']}; an added field belongs into `later`"


@pytest.mark.parametrize("table", TABLES)
def test_ids_and_keys_follow_from_full_specs_as_they_did(golden, specs, table):
    """Published records and poisons are found under them, and other people's: on their machines nothing changes them back."""
    lines = getattr(golden, table)
    changed = [line for line in lines if today(specs, table, line[:-1]) != line[-1]]
    assert not changed, f"{len(changed)} of {len(lines)} {table} have another id or key now, as {changed[0]}: {RULE}"


def test_the_golden_file_is_as_its_program_writes_it(golden, tmp_path, monkeypatch):
    """Changes are reviewed by line; and no line may stand there twice, with two answers."""
    text = FILE.read_text(encoding="utf-8")
    monkeypatch.setattr("golden.make.FILE", tmp_path / "ids.json")
    golden.write()
    assert (tmp_path / "ids.json").read_text(encoding="utf-8") == text
    for table in TABLES:
        lines = [json.dumps(line[:-1]) for line in getattr(golden, table)]
        assert len(lines) == len(set(lines)) > 500


def test_the_id_of_every_published_record_follows_from_its_full_spec():
    """The golden file has the cells of a day; records that are published later must last as well."""
    seen, count = set(), 0
    for path in sorted((SOURCE / "results/records").glob("*.json")):
        cell = json.loads(path.read_text())["cell"]
        kinds = {"protocols": [cell["protocol"]], "datasets": [cell["dataset"]], "architectures": [cell["architecture"]]}
        kinds |= {"attacks": cell["attack"], "defenses": cell["defense"]}
        kinds["analyses"] = [cell["measure"]] if isinstance(cell["measure"], dict) else []
        for kind, several in kinds.items():
            for spec in several:
                one = json.dumps([kind, spec["name"], spec["fields"]], sort_keys=True)
                if one not in seen:
                    seen.add(one)
                    assert plain(resolved(kind, spec["name"], spec["fields"]).fields) == spec["fields"], f"{path.name}: {one}"
        count += 1
    assert count > 1000 and len(seen) > 100
