"""The catalog: entries are found by name, ours and other packages', read without importing them, and never in the way."""

import dataclasses
import inspect
import json

import pytest
from conftest import in_process, plug_in

from unlearnable_bench.registry import ARCHITECTURES, ATTACKS, CATALOGS, DATASETS, DEFENSES, PROTOCOLS, EntryError, resolve
from unlearnable_bench.registry._from_import import inherited_facts
from unlearnable_bench.registry.entry import CALLED_WITH, COMMON, MERGED, Entry, Field

ROWS = [row for catalog in CATALOGS.values() for row in catalog.rows if row.source == "built-in"]


def ids(row: Entry) -> str:
    return f"{row.kind}:{row.name}"


def sentence(kind: str, item: str) -> str:
    with pytest.raises(EntryError) as caught:
        resolve(kind, item)
    text = str(caught.value)
    assert "\n" not in text
    return text


# What is read from the source is what an import finds


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_the_source_tells_what_an_import_tells(row):
    """Ids and keys hash defaults that were read with `ast`; they must be the ones that the entry runs with."""
    found = row.load()
    if inspect.isclass(found):
        assert found.__module__ == row.module
        expected = {f.name: f.default for f in dataclasses.fields(found)}
    else:
        parameters = inspect.signature(found).parameters.values()
        expected = {p.name: p.default for p in parameters if p.name not in CALLED_WITH[row.kind]}
    read = {f.name: f.default for f in row.fields}
    assert read == expected and [type(v) for v in read.values()] == [type(v) for v in expected.values()]
    assert row.version == getattr(found, "version", 1)
    assert row.paper == getattr(found, "paper", None)
    for fact, told in row.facts.items():
        assert told == (inherited_facts(found, fact) if fact in MERGED and inspect.isclass(found) else getattr(found, fact))


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_an_entry_is_documented(row):
    """`bench show` prints the docstring, `bench list` its first line."""
    assert not row.error
    assert len(row.summary) > 10 and row.summary.endswith(".")


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_the_small_fields_of_an_entry_are_fields_of_it(row):
    """A misspelt key there would only show when somebody runs `bench check`."""
    assert set(row.facts.get("small", {})) <= {f.name for f in row.fields}


@pytest.mark.parametrize("catalog", CATALOGS.values(), ids=lambda c: c.kind)
def test_a_catalog_is_a_mapping_of_names_to_entries(catalog):
    """`ATTACKS["em"](epsilon=...)` is how tests and notebooks use it."""
    names = list(catalog)
    assert names == sorted(set(names)) and len(catalog) == len(names) > 0
    assert all(name in catalog and callable(catalog[name]) for name in names)
    assert "no-such-entry" not in catalog and catalog.get("no-such-entry") is None


def test_the_names_that_documents_and_tables_use_are_there():
    """Names are in records and on pages: one that disappears orphans them."""
    assert {"none", "random-noise", "lsp", "ops", "ar", "em"} <= set(ATTACKS)
    assert {"none", "grayscale", "jpeg", "bdr", "cutout", "ortho-proj", "at"} <= set(DEFENSES)
    assert {"small-cnn", "resnet18"} <= set(ARCHITECTURES)
    assert {"digits", "folder", "cifar10", "cifar10-jpeg75", "cifar100", "svhn"} <= set(DATASETS)
    assert {"svhn-small", "imagenet100", "facescrub"} <= set(DATASETS)
    assert {"quick", "toy", "dvae", "st", "sem", "lfu", "tue", "apbench"} <= set(PROTOCOLS)


# Resolving


@pytest.mark.parametrize("row", ROWS, ids=ids)
def test_resolving_a_name_gives_every_default(row):
    """The id of a cell hashes all fields: a default that changes later must not change what an old record means."""
    if row.name == "folder":
        pytest.skip("a folder needs a path; see test_datasets.py")
    (part,) = resolve(row.kind, row.name)
    assert part.values == {f.name: f.default for f in (*row.fields, *COMMON.get(row.kind, ()))}
    assert (part.name, part.text) == (row.name, row.name + part.trained)  # avatar-selftrained, until weights are named


def test_given_fields_replace_defaults_and_the_short_text_names_only_them():
    """Pages print the short text; reading it again must give the same cell."""
    (part,) = resolve("attacks", "lsp(epsilon=2,norm=l2,patch=8)")
    assert dict(part.fields) == {"epsilon": 2.0, "norm": "l2", "patch": 8}
    assert part.text == "lsp(epsilon=2.0)"
    assert resolve("attacks", part.text) == (part,)


def test_a_whole_number_is_taken_for_a_float():
    """`epsilon=2` is what people write; the id must not depend on it."""
    (part,) = resolve("attacks", "lsp(epsilon=2)")
    assert type(part.fields["epsilon"]) is float
    assert part == resolve("attacks", "lsp(epsilon=2.0)")[0]


@pytest.mark.parametrize(
    ("kind", "item", "told"),
    [
        ("attacks", "lsp(patch=8.0)", "attack lsp: patch=8.0 is not a whole number"),
        ("attacks", "lsp(patch=big)", "attack lsp: patch=big is not a whole number"),
        ("attacks", "lsp(patch=true)", "attack lsp: patch=True is not a whole number"),
        ("attacks", "lsp(epsilon=large)", "attack lsp: epsilon=large is not a number"),
        ("attacks", "lsp(epsilon=true)", "attack lsp: epsilon=True is not a number"),
        ("attacks", "lsp(epsilon=nan)", "attack lsp: epsilon=nan is not a number"),
        ("attacks", "lsp(epsilon=inf)", "attack lsp: epsilon=inf is not a number"),
        ("attacks", "em(surrogate=3)", "attack em: surrogate=3 is not a word"),
        ("attacks", "lsp(norm=l7)", "attack lsp: norm=l7 is none of l2"),
        ("attacks", "lsp(seed=0.5)", "attack lsp: seed=0.5 is not a whole number"),
        ("defenses", "ortho-proj(center=1)", "defense ortho-proj: center=1 is not true or false"),
        ("datasets", "digits(per_class=-1)", "dataset digits: per_class=-1 is negative"),
        ("protocols", "quick(mean=3)", "protocol quick: mean is a tuple[float, ...] and cannot be given"),
        ("protocols", "quick(scale=0.5)", "protocol quick has no parameter 'scale'"),
        ("attacks", "none+none", "none makes a poison of its own"),
        ("defenses", "jpeg@0.5", "defense jpeg: only a protocol can be scaled by '@'"),
    ],
)
def test_a_wrong_value_is_refused_by_entry_key_and_value(kind, item, told):
    """Found while planning, before hours of work, in a sentence that names what was written."""
    assert told in sentence(kind, item)


@pytest.mark.parametrize(
    ("kind", "item", "told"),
    [
        ("attacks", "lspp", "unknown attack 'lspp'; did you mean 'lsp'?"),
        ("defenses", "grey-scale", "unknown defense 'grey-scale'; did you mean 'grayscale'?"),
        ("datasets", "cifar-10", "unknown dataset 'cifar-10'; did you mean 'cifar10'?"),
        ("architectures", "resnet-18", "unknown architecture 'resnet-18'; did you mean 'resnet18'?"),
        ("protocols", "quik", "unknown protocol 'quik'; did you mean 'quick'?"),
        ("attacks", "lsp(epsilom=1)", "attack lsp has no parameter 'epsilom'; did you mean 'epsilon'?"),
        ("datasets", "digits(perclass=1)", "dataset digits has no parameter 'perclass'; did you mean 'per_class'?"),
        ("protocols", "quick(epoch=1)", "protocol quick has no parameter 'epoch'; did you mean 'epochs'?"),
    ],
)
def test_an_unknown_name_comes_with_the_nearest_one(kind, item, told):
    """Most unknown names are typing errors."""
    assert sentence(kind, item).startswith(told)


def test_a_name_like_no_other_comes_with_all_that_there_are():
    """Where nothing is near, the list is the help."""
    told = sentence("defenses", "zzzzzzzz")
    assert all(name in told for name in DEFENSES)


def test_a_chain_has_its_parts_in_order():
    """Purifiers run from left to right."""
    assert [part.text for part in resolve("defenses", "jpeg(quality=50)+bdr")] == ["jpeg(quality=50)", "bdr"]


def test_a_scaled_protocol_is_another_one():
    """A tenth of the epochs must never share an id with the whole recipe."""
    (whole,), (tenth,) = resolve("protocols", "quick"), resolve("protocols", "quick@0.1")
    assert whole.fields != tenth.fields and tenth.text == "quick@0.1"
    assert (whole.build().length(640), tenth.build().length(640)) == ((100, 10), (10, 10))
    assert resolve("protocols", tenth.text) == (tenth,)


@pytest.mark.parametrize("catalog", [ATTACKS, DEFENSES, PROTOCOLS], ids=lambda c: c.kind)
def test_a_resolved_part_builds_its_entry_with_these_fields(catalog):
    """What was hashed is what runs."""
    for name in catalog:
        (part,) = catalog.resolve(name)
        built = part.build()
        assert {f.name: getattr(built, f.name) for f in dataclasses.fields(built)} == part.values


def test_a_seed_can_be_fixed_in_an_attack():
    """Paper tables craft one poison, of seed 0, for victims of several seeds."""
    (part,) = resolve("attacks", "lsp(seed=3)")
    assert part.fields["seed"] == 3 and part.text == "lsp(seed=3)"
    assert part.build() == resolve("attacks", "lsp")[0].build()


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [("int | None", "none", None), ("int|None", 3, 3), ("float | None", 3, 3.0), ("str", "x", "x")],
)
def test_an_optional_field_takes_none_and_its_type(kind, given, expected):
    """`none` is how an item writes Python's None."""
    assert Field("steps", kind, None).accept("attack x", given) == expected


# Planning stays light


def test_planning_imports_no_torch():
    """`bench list` in a tenth of a second, also on a login node without the libraries' GPU halves."""
    code = """
        import sys
        from unlearnable_bench.registry import CATALOGS, lacking, resolve
        from unlearnable_bench import results
        count = 0
        for catalog in CATALOGS.values():
            for row in catalog.rows:
                assert not row.error, row
                if row.name != "folder":
                    parts = resolve(catalog.kind, row.name)
                    count += len([part.text for part in parts])
        cells = results.read_grid("quick").cells(resolve, lacking)
        heavy = {"torch", "torchvision", "timm", "sklearn", "PIL", "scipy"} & set(sys.modules)
        assert not heavy, heavy
        print(count, len(cells))
    """
    count, cells = map(int, in_process(code).split())
    assert count == len(ROWS) - 1 and cells > 50


# Other people's packages

ATTACK = '''
"""Plus: adds a constant."""
from dataclasses import dataclass
from unlearnable_bench.registry import Attack, Budget, Paper
STEP = 4
@dataclass(frozen=True)
class Plus(Attack):
    epsilon: float = STEP / 255  # linf radius, pixel units
    version = 3
    paper = Paper("Plus", venue="nowhere", url="")
    @property
    def budget(self):
        return Budget("linf", self.epsilon)
    def craft(self, clean, job):
        import torch
        return torch.full(clean.images.shape, self.epsilon)
'''
LISTING = """
    import json, sys
    from unlearnable_bench.registry import CATALOGS, EntryError, resolve
    def told(kind, item):
        try:
            return [[part.name, dict(part.fields)] for part in resolve(kind, item)]
        except EntryError as error:
            return str(error)
    rows = [[r.kind, r.name, r.source, r.error, r.version, r.summary, {f.name: f.default for f in r.fields}]
            for c in CATALOGS.values() for r in c.rows if r.source != "built-in"]
    asked = {item: told("attacks", item) for item in sys.argv[1:]}
    print(json.dumps({"rows": rows, "asked": asked, "torch": "torch" in sys.modules}))
"""


def listing(site, *items):
    found = json.loads(in_process(LISTING, *items, site=site, BENCH_IMPORT_SECONDS="2"))
    return {(kind, name, source): rest for kind, name, source, *rest in found["rows"]}, found["asked"], found["torch"]


def test_an_entry_of_another_package_is_found_with_its_source_and_without_importing_it(tmp_path):
    """The same door for everybody: nothing of ours is edited, and listing stays light."""
    plug_in(tmp_path, "bench-plus", ATTACK, "[bench.attacks]\nplus = bench_plus:Plus\n", "2.1")
    rows, asked, torch = listing(tmp_path, "plus(epsilon=1/255)")
    error, version, summary, fields = rows["attacks", "plus", "bench-plus 2.1"]
    assert (error, version, summary, fields) == ("", 3, "Plus: adds a constant.", {"epsilon": 4 / 255})
    assert asked["plus(epsilon=1/255)"] == [["plus", {"epsilon": 1 / 255}]]
    assert not torch


def test_two_entries_of_one_name_are_both_listed_and_only_that_name_is_refused(tmp_path):
    """Which of them ran would depend on the order of folders; all others must go on working."""
    plug_in(tmp_path, "twin-a", ATTACK, "[bench.attacks]\ntwin = twin_a:Plus\nplus = twin_a:Plus\n")
    plug_in(tmp_path, "twin-b", ATTACK, "[bench.attacks]\ntwin = twin_b:Plus\nlsp = twin_b:Plus\n")
    rows, asked, _ = listing(tmp_path, "twin", "lsp", "plus", "em", "ops")
    assert {source for _, name, source in rows if name == "twin"} == {"twin-a 1.0", "twin-b 1.0"}
    for name, sources in {"twin": ("twin-a 1.0", "twin-b 1.0"), "lsp": ("built-in", "twin-b 1.0")}.items():
        assert asked[name].startswith(f"two attacks are called {name!r}")
        assert all(source in asked[name] for source in sources)
    assert all(isinstance(asked[name], list) for name in ("plus", "em", "ops"))


OLD = "it says `from registry import Attack, Budget, Paper`; write `from unlearnable_bench import Attack, Budget, Paper`"
UNREADABLE = ATTACK.replace("STEP / 255", "float(STEP)")
BROKEN = {  # name: its source, its entry point's value and what its row says; '' where only an import can tell
    "boom": (ATTACK + "\nraise RuntimeError('boom')", "boom:Plus", ""),
    "needy": ("import no_such_library\n" + ATTACK, "needy:Plus", ""),
    "quits": (ATTACK + "\nraise SystemExit(7)", "quits:Plus", ""),
    "old": (ATTACK.replace("unlearnable_bench.registry", "registry"), "old:Plus", OLD),
    "syntax": ("def broken(:\n", "syntax:Plus", "SyntaxError in syntax.py, line 1"),
    "absent": ("", "no_such_module_here:Plus", "there is no module 'no_such_module_here'"),
    "inside": (
        "",
        "unlearnable_bench.registry.no_such_part:Plus",
        "there is no module 'unlearnable_bench.registry.no_such_part'",
    ),
    "nameless": (ATTACK, "nameless", "expected module:class"),
    "scribble": (ATTACK, "not a module!", "not a module!"),
    "wrong": (ATTACK, "wrong:Minus", "Minus"),
    "bare": (ATTACK.replace(" = STEP / 255", ""), "bare:Plus", "the field 'epsilon' has no default"),
    "escape": (UNREADABLE + "\nraise SystemExit(7)", "escape:Plus", "SystemExit: 7"),
    "leaves": (UNREADABLE + "\nimport os; os._exit(0)", "leaves:Plus", "its import ended the process: exit status 0"),
    "interrupts": (UNREADABLE + "\nraise KeyboardInterrupt('me')", "interrupts:Plus", "KeyboardInterrupt: me"),
    "generates": (UNREADABLE + "\nraise GeneratorExit", "generates:Plus", "GeneratorExit"),
    "own": (UNREADABLE + "\nclass Mine(BaseException): pass\nraise Mine('own')", "own:Plus", "Mine: own"),
    "power": (ATTACK.replace("STEP / 255", "9**9**9"), "power:Plus", "its import did not end within 2 s"),
    "repeats": (ATTACK.replace("STEP / 255", "'x' * 10**12"), "repeats:Plus", "MemoryError"),
    "default": (ATTACK.replace("STEP / 255", "object()"), "default:Plus", "not a finite number, word"),
    "speaks": (UNREADABLE + "\nprint('hello')", "speaks:Plus", ""),
    "markup": (ATTACK.replace("Plus: adds", "[/b] [link=x] \x1b[2J adds"), "markup:Plus", ""),
    "strange": ("class Plus: pass", "strange:Plus", "not a dataclass derived from unlearnable_bench.Attack"),
    "function": ("def plus(): pass", "function:plus", "not a dataclass derived from unlearnable_bench.Attack"),
    "defense": (ATTACK.replace("Attack", "Defense"), "defense:Plus", "not a dataclass derived from unlearnable_bench.Attack"),
}


def site_with(site, *names):
    """A site with some broken plug-ins, and a whole one."""
    for name in names:
        source, value, _ = BROKEN[name]
        plug_in(site, name, source, f"[bench.attacks]\n{name} = {value}\n")
    plug_in(site, "bench-plus", ATTACK, "[bench.attacks]\nplus = bench_plus:Plus\n")
    return site


@pytest.fixture(scope="module")
def listed(tmp_path_factory):
    """What is listed beside every broken plug-in that we could think of."""
    return listing(site_with(tmp_path_factory.mktemp("site"), *BROKEN), "plus", "em", *BROKEN)


@pytest.mark.slow
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plug_in_is_a_row_with_its_error(listed, name):
    """`bench list` and `bench doctor` show it; using it gives the same sentence."""
    rows, asked, _ = listed
    told = BROKEN[name][2]
    error = rows["attacks", name, f"{name} 1.0"][0]
    if told:
        assert told in error and "\n" not in error
        assert asked[name].startswith(f"attack {name!r} of {name} 1.0 is broken: ")
    else:
        assert error == ""


@pytest.mark.slow
def test_broken_plug_ins_are_never_in_the_way_of_others(listed):
    """Somebody else's half-installed package must not stop a grid that does not use it."""
    _, asked, _ = listed
    assert isinstance(asked["plus"], list) and isinstance(asked["em"], list)


@pytest.mark.slow
def test_a_list_is_a_table_or_json_whatever_plug_ins_print_raise_or_say(tmp_path):
    """A list of what is there is the first thing that anybody asks for."""
    code = """
        from unlearnable_bench.benchmark.cli import app
        app(["list", "attacks", "--json"], standalone_mode=False)
        print("====")
        app(["list", "attacks", "markup"], standalone_mode=False)
    """
    said, table = in_process(code, site=site_with(tmp_path, "leaves", "speaks", "markup")).split("====")
    rows = {row["name"]: row["error"] for row in json.loads(said)}
    assert rows["leaves"] == "its import ended the process: exit status 0"
    assert rows["speaks"] == rows["markup"] == rows["plus"] == rows["lsp"] == ""
    assert "[/b] [link=x] \\u001b[2J adds a constant" in table and "\x1b" not in table


@pytest.mark.slow
def test_what_only_an_import_can_tell_is_found_in_a_child_process(tmp_path):
    """`bench doctor` tells which plug-ins fail although their sources can be read, and survives those that exit."""
    code = """
        import json
        from unlearnable_bench.registry import ATTACKS
        from unlearnable_bench.registry.child import failing
        rows = [row for row in ATTACKS.rows if row.name in ("boom", "needy", "quits", "plus", "syntax", "lsp")]
        print(json.dumps(failing(rows)))
    """
    found = json.loads(in_process(code, site=site_with(tmp_path, "boom", "needy", "quits", "syntax")))
    assert set(found) == {f"attacks:{n}:{n} 1.0" for n in ("boom", "needy", "quits", "syntax")}
    assert found["attacks:boom:boom 1.0"] == "RuntimeError: boom"
    assert found["attacks:needy:needy 1.0"] == "ModuleNotFoundError: No module named 'no_such_library'"
    assert found["attacks:quits:quits 1.0"] == "SystemExit: 7"


@pytest.mark.slow
def test_an_import_that_kills_its_process_is_named_and_others_are_not_blamed(tmp_path):
    """A plug-in built for another libc ends in a segmentation fault, not in an exception."""
    plug_in(tmp_path, "bench-plus", ATTACK, "[bench.attacks]\nplus = bench_plus:Plus\n")
    plug_in(tmp_path, "bench-die", ATTACK + "\nimport os; os._exit(9)", "[bench.attacks]\ndie = bench_die:Plus\n")
    code = """
        from unlearnable_bench.registry import ATTACKS
        from unlearnable_bench.registry.child import failing
        print(failing([row for row in ATTACKS.rows if row.name in ("plus", "die")]))
    """
    told = "its import ended the process: exit status 9"
    assert in_process(code, site=tmp_path).strip() == str({"attacks:die:bench-die 1.0": told})


@pytest.mark.slow
def test_a_class_whose_base_is_in_another_file_is_imported_to_be_read(tmp_path):
    """Sources that do not tell are no reason to refuse a plug-in."""
    plug_in(tmp_path, "bench-plus", ATTACK, "[bench.attacks]\n")
    source = """
        from dataclasses import dataclass
        from bench_plus import Plus
        @dataclass(frozen=True)
        class More(Plus):
            \"\"\"More: adds more.\"\"\"
            times: int = 2 + 1
            mode: str = "a" + "b".upper()
    """
    plug_in(tmp_path, "bench-more", source, "[bench.attacks]\nmore = bench_more:More\n")
    rows, asked, _ = listing(tmp_path, "more(times=5)", "more(times=x)")
    error, version, summary, _ = rows["attacks", "more", "bench-more 1.0"]
    assert (error, version, summary) == ("", 3, "More: adds more.")
    assert asked["more(times=5)"] == [["more", {"epsilon": 4 / 255, "times": 5, "mode": "aB"}]]
    assert "is not a whole number" in asked["more(times=x)"]


def test_an_entry_may_look_for_its_base_in_the_registry(tmp_path):
    """Its import asks for all entries, itself among them: no child must have a child for that."""
    source = """
        from dataclasses import dataclass
        from unlearnable_bench.registry import ATTACKS
        @dataclass(frozen=True)
        class Mine(ATTACKS["random-noise"]):
            \"\"\"Mine: as random noise.\"\"\"
            times: int = 3
    """
    plug_in(tmp_path, "bench-mine", source, "[bench.attacks]\nmine = bench_mine:Mine\n")
    rows, asked, _ = listing(tmp_path, "mine(times=5)")
    assert rows["attacks", "mine", "bench-mine 1.0"][0] == "" and asked["mine(times=5)"][0][1]["times"] == 5


def test_functions_of_other_packages_are_entries_too(tmp_path):
    """Architectures and datasets are functions; their facts are attributes set below them."""
    source = '''
        """Two functions."""
        def net(num_classes, in_channels=3, image_size=32, width: int = 8):  # channels
            """A network."""
        def half(num_classes, width):
            """Half an entry."""
        def data(root, noise: float = 0.5):
            """A dataset."""
        data.version = 4
    '''
    points = """
        [bench.architectures]
        net = bench_two:net
        half = bench_two:half
        [bench.datasets]
        dots = bench_two:data
    """
    plug_in(tmp_path, "bench-two", source, points)
    rows, _, torch = listing(tmp_path)
    assert rows["architectures", "half", "bench-two 1.0"][0].startswith("the argument 'width' has no default")
    assert rows["architectures", "net", "bench-two 1.0"] == ["", 1, "A network.", {"width": 8}]
    assert rows["datasets", "dots", "bench-two 1.0"] == ["", 4, "A dataset.", {"noise": 0.5}]
    assert not torch


@pytest.mark.slow
def test_whether_an_entry_applies_is_asked_in_a_child_process():
    """Planning learns which cells are not applicable without importing torch itself."""
    code = """
        import sys
        from unlearnable_bench.registry import EntryError, resolve
        from unlearnable_bench.registry.child import reasons
        (digits,) = resolve("datasets", "digits(per_class=2,test_per_class=2)")
        questions = [("attacks", "lsp"), ("attacks", "ops(epsilon=2000)"), ("defenses", "jpeg"), ("attacks", "em")]
        for reason in reasons([(resolve(*question)[0], digits) for question in questions]):
            print(reason or "yes")
        try:
            reasons([(resolve("attacks", "lsp")[0], digits), (resolve("defenses", "jpeg(quality=0)")[0], digits)])
        except EntryError as error:
            print(error)
        assert "torch" not in sys.modules
    """
    yes, no, jpeg, em, refused = in_process(code).splitlines()
    assert yes == jpeg == em == "yes"
    assert no.startswith("ops: 10 classes do not find different pixels")
    assert refused == "defense jpeg: quality=0, expected 1 to 95"
