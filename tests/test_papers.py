"""The papers' tables: every printed value is there once, tables agree with themselves, grids run what their authors ran."""

import hashlib
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from conftest import in_process
from PIL import Image

from unlearnable_bench.benchmark.grid import expand
from unlearnable_bench.leaderboard.tables.aggregate import combined, labels_key
from unlearnable_bench.leaderboard.tables.score import TIMES
from unlearnable_bench.registry import ATTACKS, DEFENSES, lacking, resolve
from unlearnable_bench.results import FileError, TableFile, read_grid, read_table
from unlearnable_bench.results.grid import grid_names
from unlearnable_bench.results.reference import PAPERS, paper_tables, source
from unlearnable_bench.results.tidy import TIDY_COLUMNS, tidy_row

FULL = read_grid("full")
COUNTS = json.loads((Path(__file__).parent / "papers.json").read_text())
"""Of every table the number of printed values and a digest of their tidy rows, taken when they were compared, cell by cell,
with a checked transcription of the papers. A table changed on purpose gets a new digest; the failing test prints it."""

# What papers print and their own numbers contradict; every one of these values carries a mark in its table.
WRONG_SUMS = {
    ("d-vae/table-17", "Mean", "JPEG (quality 10) PSNR 22"),
    ("d-vae/table-18", "Mean", "Ours (1.5/3.0)"),
    ("d-vae/table-18", "Mean", "Ours (0.5/3.0)"),
    ("progressive-staged-training/table-ii", "REM", "UEraser", "Avg. Acc. (%)"),
    ("progressive-staged-training/table-ii", "REM", "UEraser", "change from NT"),
    ("progressive-staged-training/table-iii", "OPS", "ST", "change from NT"),
    ("progressive-staged-training/table-iv", "ST-Full, change from NT", "DenseNet", "Clean"),
}
TWICE = Counter({"stable-error-minimizing": 15, "progressive-staged-training": 7, "transferable-unlearnable": 4, "d-vae": 2})
TWICE["learn-from-unlearnable"] = 1


def shipped(name: str) -> TableFile:
    return FULL.tables[name]


def printed(name: str):
    return [place for place in shipped(name).requests() if place.printed and place.printed.value is not None]


# Every printed value


@pytest.mark.parametrize("name", paper_tables())
def test_a_table_has_the_values_that_were_checked(name):
    """A digit changed by mistake, a row lost or doubled: the tidy form of the table is no longer what it was."""
    rows = sorted(
        ",".join(tidy_row(place, shipped(name))[key] for key in TIDY_COLUMNS if key != "note") for place in printed(name)
    )
    found = {"cells": len(rows), "sha256": hashlib.sha256("\n".join(rows).encode()).hexdigest()[:16]}
    assert found == COUNTS.get(name), f"tests/papers.json says {COUNTS.get(name)} of {name}"


def test_all_tables_are_there():
    """64 tables of nine papers with 3,457 values, five of the APBench leaderboard with 278, and nothing else."""
    papers = [name for name in paper_tables() if not source(shipped(name).paper).leaderboard]
    assert (len(papers), sum(COUNTS[name]["cells"] for name in papers)) == (64, 3457)
    assert (len(paper_tables()), sum(one["cells"] for one in COUNTS.values())) == (69, 3457 + 278)
    assert set(paper_tables()) == set(COUNTS)


def test_tables_come_in_the_order_of_their_papers():
    """II before III before IX before X, 2 before 10."""
    found = [name.partition("table-")[2] for name in paper_tables() if name.startswith("progressive")]
    assert found == ["ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x"]
    assert [name for name in paper_tables() if name.startswith("d-vae")][:3] == [f"d-vae/table-{k}" for k in (1, 2, 3)]


@pytest.mark.parametrize("name", paper_tables())
def test_no_value_is_in_a_table_twice(name):
    """Two rows of the tidy form that nobody could tell apart would be a place transcribed twice."""
    rows = Counter(tuple(tidy_row(p, shipped(name))[k] for k in TIDY_COLUMNS[:8]) for p in printed(name))
    assert max(rows.values()) == 1


def test_every_mark_says_why_and_every_doubt_has_a_mark():
    """A value that is inferred or contradicted never looks like one that is neither."""
    for name in paper_tables():
        marks = shipped(name).marks
        used = {place.printed.mark for place in printed(name)} - {""}
        assert used == set(marks), f"{shipped(name).file} has marks that no value uses"
        assert all(mark.note.endswith(".") for mark in marks.values())


@pytest.mark.parametrize("paper", sorted({name.partition("/")[0] for name in paper_tables()}))
def test_a_paper_says_who_wrote_it_and_how_to_cite_it(paper):
    """Once per paper, for pages and for people who cite a number."""
    found = source(paper)
    assert found.url.startswith(("https://arxiv.org/abs/", "https://openreview.net/forum?id=")) and found.short and found.venue
    assert found.title in found.bibtex and str(found.year) in found.bibtex and found.bibtex.startswith("@")
    assert all(name.split()[-1] in found.bibtex for name in found.authors.split(", "))
    folder = {path.name for path in (PAPERS / paper).iterdir()}
    stems = {Path(name).stem for name in folder if name != "paper.toml"}
    assert folder == {"paper.toml"} | {f"{stem}.{ending}" for stem in stems for ending in ("toml", "csv")}


# Tables against themselves and each other


def test_printed_means_and_changes_follow_from_the_printed_cells():
    """Recomputed from what a table prints, to one unit of the last digit: papers round and truncate. Exceptions are listed."""
    wrong, checked = set(), 0
    for name in paper_tables():
        places = shipped(name).requests()
        index = {labels_key(place.labels): place for place in places}
        for place in places:
            if place.aggregate is None or place.printed is None or place.printed.value is None or place.metric in TIMES:
                continue
            values = combined(place, index, lambda p: {0: p.printed.value} if p.printed.value is not None else {})
            if not values:
                continue
            checked += 1
            unit = 10.0 ** -len(place.printed.text.partition(".")[2])
            if abs(values[0] - place.printed.value) > 1.01 * unit:
                wrong.add((name, *place.row, *place.column))
                assert place.printed.quality == "suspect"
    assert wrong == WRONG_SUMS and checked == 311


def apart(places) -> bool:
    """Whether values differ; times by more than the fewest digits printed can show: 22 hours and 22.6 hours do not."""
    values = [place.printed.value for place in places]
    unit = 10.0 ** -min(len(place.printed.text.partition(".")[2]) for place in places)
    return max(values) - min(values) > (0.99 * unit if places[0].metric in TIMES else 0)


def test_a_cell_printed_in_two_places_has_the_same_value_or_a_mark():
    """304 cells stand in several places of a paper; where they differ one at least is marked, and no more do than known."""
    groups = defaultdict(list)
    for name in paper_tables():
        for place in printed(name):
            if place.aggregate is None:
                groups[shipped(name).paper, place.written, place.metric].append(place)
    several = {key: places for key, places in groups.items() if len(places) > 1}
    differing = {key: places for key, places in several.items() if apart(places)}
    for places in differing.values():
        told = [f"{place.table} {place.printed.text}" for place in places]
        assert any(place.printed.quality == "suspect" for place in places), f"{places[0].text}: {told}"
    assert len(several) == 304 and Counter(key[0] for key in differing) == TWICE


def test_the_drops_of_table_6_follow_from_table_2():
    """Clean training without defense, less the mean of a defense. ISS is no column of table 2."""
    two = {(p.row[0], p.column[0]): p.printed.value for p in printed("d-vae/table-2")}
    drops = {place.column[0]: place.printed.value for place in printed("d-vae/table-6")}
    for defense in set(drops) - {"ISS"}:
        expected = two["Clean (no poison)", "w/o"] - two["Mean (except clean)", defense]
        assert drops[defense] == pytest.approx(expected, abs=0.006), defense


@pytest.mark.parametrize("name", ["d-vae/table-8", "d-vae/table-11"])
def test_f1_follows_from_precision_and_recall(name):
    """Three digits are printed, so the last one may be off by one."""
    values = {(place.row, place.column[0]): place.printed.value for place in printed(name)}
    for row in {row for row, _ in values}:
        precision, recall = values[row, "Precision"], values[row, "Recall"]
        assert values[row, "F1-score"] == pytest.approx(2 * precision * recall / (precision + recall), abs=0.0016), row


def test_the_same_cells_in_two_layouts_are_the_same_cells():
    """Tables 9 and 12 are one set of cells, turned: both grids run the same."""
    nine, twelve = ({place.written for place in shipped(f"d-vae/table-{k}").requests()} for k in (9, 12))
    assert nine == twelve and len(nine) == 56


# Grids


def wanted(name: str):
    return read_grid(name).requested_cells(resolve, lacking)


@pytest.fixture
def hide(monkeypatch):
    """Return a function that makes an entry one that is not installed."""

    def uninstall(catalog, name: str) -> None:
        rows = tuple(row for row in catalog.rows if row.name != name)
        assert rows != catalog.rows
        monkeypatch.setattr(catalog, "rows", rows)

    return uninstall


@pytest.mark.parametrize("name", paper_tables())
def test_every_entry_and_field_that_a_shipped_table_names_is_there(name):
    """A misspelt one would only show as a cell that is not available. What a paper has and we have not stands in its file."""
    absent = source(shipped(name).paper).absent.values()
    lacks = [one for one in wanted(name) if one.reason or not one.cells]
    assert [(one.request.where, one.reason) for one in lacks if not any(why[:-1] in one.reason for why in absent)] == []


def test_what_a_paper_names_as_absent_is_in_its_tables_and_nowhere_else():
    """An entry that was built since would still be said to be missing."""
    for paper in {name.partition("/")[0] for name in paper_tables()}:
        absent = source(paper).absent
        reasons = [one.reason for name in paper_tables() if name.startswith(f"{paper}/") for one in wanted(name) if one.reason]
        assert all(any(f" {name}. {why[:-1]}" in reason for reason in reasons) for name, why in absent.items()), paper


@pytest.mark.parametrize("name", paper_tables())
def test_a_plain_accuracy_stands_for_one_cell_and_its_seeds(name):
    """A number of a paper is one setting: one protocol, dataset, attack, ratio, part, defense, network."""
    for one in wanted(name):
        assert one.request.seeds == (0, 1, 2)
        members = {cell.texts["defense"] for cell in one.cells}
        assert len(members) <= 1 or "iss" in one.request.fields["defense"]
        for member in members:
            cells = [cell for cell in one.cells if cell.texts["defense"] == member]
            assert [cell.seed for cell in cells] == [0, 1, 2]
            assert len({tuple(v for k, v in cell.texts.items() if k != "seed") for cell in cells}) == 1


def test_cells_that_tables_share_are_run_once():
    """JPEG on OPS stands in tables 2, 17 and 18 of one paper; what two tables write alike, and no more, is one cell."""
    names = [f"d-vae/table-{k}" for k in (2, 17, 18)]
    ids = [{cell.id for one in wanted(name) for cell in one.cells} for name in names]
    jpeg = next(one for one in wanted(names[0]) if (one.request.row, one.request.column) == (("OPS",), ("JPEG",)))
    assert len(jpeg.cells) == 3 and {cell.id for cell in jpeg.cells} <= set.intersection(*ids)
    two, seventeen = ({one.request.written for one in wanted(name) if one.cells} for name in names[:2])
    assert len(ids[0] & ids[1]) == 3 * len(two & seventeen)
    both = [cell.id for cell in read_grid("d-vae/table-[1-2]*").cells(resolve, lacking)]
    assert set.union(*ids) <= set(both) and len(both) == len(set(both))


def test_full_is_the_union_of_all_tables_and_a_glob_of_some():
    """`bench run --grid full` and `--grid 'd-vae/*'`."""
    assert set(FULL.tables) == set(paper_tables())
    assert set(read_grid("d-vae/*").tables) == {name for name in paper_tables() if name.startswith("d-vae/")}
    assert {"full", "quick", "d-vae/table-2", "d-vae/*"} <= set(grid_names())


def test_poisons_of_papers_are_made_once_whatever_the_seed_of_the_victim():
    """A paper has one poison; three seeds of a poison that takes a day would not be its experiment."""
    for name in paper_tables():
        for place in shipped(name).requests():
            attack = str(place.fields["attack"])
            assert attack in ("none", "mean", "all") or "seed=0" in attack, (name, attack)


def test_ratio_0_is_the_clean_cell_for_every_attack():
    """Nothing is poisoned then: under each defense the four attacks of table VI share one cell."""
    clean = defaultdict(list)
    for one in wanted("progressive-staged-training/table-vi"):
        if one.request.labels["ratio"] == "0" and one.cells:
            clean[one.request.labels["defense"]].append(one.cells[0].id)
    assert "NT" in clean and all(len(ids) == 4 and len(set(ids)) == 1 for ids in clean.values())
    assert len({ids[0] for ids in clean.values()}) == len(clean)


def test_a_cell_of_an_entry_that_is_not_installed_is_listed_with_the_reason(hide):
    """Never dropped: a grid that silently ran less than its table would claim too much."""
    hide(ATTACKS, "ntga")
    absent = read_grid("d-vae/table-2").absent(resolve, lacking)
    ntga = next(place.fields["attack"] for place in shipped("d-vae/table-2").requests() if place.labels["attack"] == "NTGA")
    assert (f"cifar10/{ntga}/none/resnet18/s0", "not available: attack ntga") in absent
    assert all(reason.startswith("not available: ") for _, reason in absent)
    runs = sum(len(one.cells) or 3 for one in wanted("d-vae/table-2"))
    assert len(absent) + len(read_grid("d-vae/table-2").cells(resolve, lacking)) == runs == 3 * 108


def test_expanding_everything_needs_no_torch():
    """Planning on the login node of a cluster."""
    code = """
        import sys
        from unlearnable_bench.registry import lacking, resolve
        from unlearnable_bench.results import read_grid
        print(len(read_grid("full").cells(resolve, lacking)), "torch" in sys.modules, "scipy" in sys.modules)
    """
    count, torch, scipy = in_process(code).split()
    assert int(count) > 1000 and (torch, scipy) == ("False", "False")


# Selectors


def test_selectors_keep_or_replace_what_a_table_runs():
    """The flags of `bench run` on a paper's grid, by item, by bare name, by printed label."""
    grid = read_grid("d-vae/table-2")
    assert {p.fields["attack"] for p in grid.selected({"attack": ["ops"]}, resolve).requests} == {"ops(seed=0)"}
    assert {p.labels["attack"] for p in grid.selected({"attack": ["LSP", "a?"]}, resolve).requests} == {"LSP", "AR"}
    assert {p.seeds for p in grid.selected({"seed": ["0"]}, resolve).requests} == {(0,)}
    assert {p.seeds for p in grid.selected({"seed": ["0", "7"]}, resolve).requests} == {(0, 7)}, "seeds are no axis of scores"
    assert {p.seeds for p in grid.selected({"seed": ["0=7"]}, resolve).requests} == {(7, 1, 2)}
    moved = grid.selected({"dataset": ["cifar10=cifar10-jpeg75"], "architecture": ["resnet18"]}, resolve)
    assert {p.fields["dataset"] for p in moved.requests} == {"cifar10-jpeg75"}
    assert {p.changes for p in moved.requests} == {("cifar10-jpeg75 instead of cifar10",)}
    scaled = grid.scaled(0.1)
    assert {p.fields["protocol"] for p in scaled.requests} == {"dvae@0.1"}
    assert not {c.id for c in scaled.cells(resolve, lacking)} & {c.id for c in grid.cells(resolve, lacking)}


def test_selectors_that_keep_and_that_replace_can_be_mixed_on_one_axis():
    """`--attack lsp,ops=ar` keeps what one of them names: LSP as it is, and AR in the place of OPS."""
    grid = read_grid("d-vae/table-2")
    mixed = grid.selected({"attack": ["LSP", "ops=ar"]}, resolve)
    kept = {(p.fields["attack"].partition("(")[0], p.labels["attack"], p.changes) for p in mixed.requests}
    assert kept == {("lsp", "LSP", ()), ("ar", "OPS", ("ar instead of ops(seed=0)",))}
    of_both = [p for p in grid.requests if p.labels["attack"] in ("LSP", "OPS")]
    assert [(p.row, p.column) for p in mixed.requests] == [(p.row, p.column) for p in of_both]
    turned = grid.selected({"attack": ["ops=ar", "LSP"]}, resolve)
    assert turned.requests == mixed.requests, "the order of a table counts, not that of the flag"


@pytest.mark.parametrize(
    ("wishes", "told"),
    [
        ({"architecture": ["resnet19"]}, r"--architecture resnet19: the grid has no such architecture; it has .*resnet18"),
        ({"seed": ["9=1"]}, r"--seed 9=1: the grid has no seed 9 to replace; it has 0, 1, 2"),
        ({"seed": ["x"]}, "--seed x: expected a whole number"),
        ({"ratio": ["x"]}, "--ratio x: expected a number from 0 to 1"),
    ],
)
def test_a_selector_that_nothing_matches_says_what_there_is(wishes, told):
    """Not an empty plan."""
    with pytest.raises(FileError, match=told):
        read_grid("d-vae/table-2").selected(wishes, resolve)


# Wrong files

TOML = """
title = "Mine"
paper = "d-vae"
table = "99"
protocol = "dvae"
dataset = "cifar10"
architecture = "resnet18"
seed = [0]
attack = ["none", {label = "LSP", attack = "lsp(seed=0)"}]
defense = ["none", {label = "Gray", defense = "grayscale"}]
rows = ["attack"]
columns = ["defense"]
"""
CSV = "attack,none,Gray\nnone,94.57,92.74\nLSP,13.14 [a],73.63\n"
MARK = '[marks.a]\nquality = "suspect"\nnote = "Why."\n'


@pytest.fixture
def table(tmp_path):
    """Write a paper's table and return a function that reads it after some text was replaced."""

    def read(toml: dict[str, str] | None = None, csv: dict[str, str] | None = None):
        texts = [TOML + MARK, CSV]
        for number, changes in enumerate((toml, csv)):
            for old, new in (changes or {}).items():
                assert old in texts[number]
                texts[number] = texts[number].replace(old, new)
        (tmp_path / "mine.toml").write_text(texts[0])
        (tmp_path / "mine.csv").write_text(texts[1])
        return read_grid(str(tmp_path / "mine.toml"))

    return read


def test_a_table_is_read_with_labels_values_and_marks(table):
    """The whole format in one small file."""
    grid = table()
    values = {place.key: place.printed for place in grid.requests}
    lsp = values[("LSP",), ("none",)]
    assert (lsp.text, lsp.value, lsp.quality, lsp.note) == ("13.14", 13.14, "suspect", "Why.")
    assert len(grid.cells(resolve, lacking)) == 4


@pytest.mark.parametrize(
    ("toml", "csv", "told"),
    [
        ({'"lsp(': '"lspp('}, {}, r"mine.toml, LSP / none: unknown attack 'lspp'; did you mean 'lsp'\?"),
        ({'"lsp(': '"lsp(epsilon=far,'}, {}, r"mine.toml, LSP / none: .*epsilon=far is not a number"),
        ({'"grayscale"': '"graysacle"'}, {}, r"mine.toml, none / Gray: unknown defense 'graysacle'; did you mean 'grayscale'"),
        (
            {'columns = ["defense"]': "columns = []"},
            {},
            r"mine.toml: `defense` has 2 values and is neither in rows nor in columns",
        ),
        ({'columns = ["defense"]': 'columns = ["attack", "defense"]'}, {}, r"mine.toml: `attack` is in rows and in columns"),
        ({'label = "LSP"': 'label = "none"'}, {}, r"mine.toml: `attack` has two values labeled 'none'; give each a label"),
        ({MARK: ""}, {}, r"mine.csv, line 3, column 'none': there is no mark 'a'; add \[marks.a\]"),
        ({MARK: MARK + '[[cell]]\nat = {attack = "AR"}\n'}, {}, r"cell 1: `attack` has no label 'AR'; it has none, LSP"),
        ({MARK: MARK + '[[cell]]\nat = {seed = "0"}\n'}, {}, r"mine.toml: `cell.0.at"),
        ({}, {"LSP,": "lsp,"}, r"mine.csv, line 3 has the label 'lsp', expected 'LSP'; rows and columns of mine.toml say"),
        ({}, {",73.63": ""}, r"mine.csv, line 3 has 2 fields between commas, expected 3"),
        ({}, {"none,94.57,92.74\n": ""}, r"mine.csv has 2 lines, expected 1 with labels and 2 with values"),
        ({}, {"92.74": "92,74"}, r"mine.csv, line 2 has 4 fields"),
        ({}, {"92.74": "927.4"}, r"mine.csv, none / Gray: 927.4 is not an accuracy; expected 0 to 100, or another `metric`"),
        ({'"grayscale"': '"patch-shuffle"'}, {}, r"mine.toml, none / Gray: unknown defense 'patch-shuffle'"),
        ({}, {"92.74": "about 92"}, r"mine.csv, line 2, column 'Gray': 'about 92' is not a value; write 93.1"),
        (
            {'"lsp(seed=0)"': '"none"'},
            {},
            r"mine.toml: none / none and LSP / none are the same cell; leave one out or tell them",
        ),
        ({'label = "LSP"': 'lable = "LSP"'}, {}, r"`attack.1`: .*a spec written as a table needs a name, or keys from label"),
    ],
)
def test_a_wrong_paper_table_is_told_by_file_place_and_remedy(table, toml, csv, told):
    """One sentence, as people type these files from PDFs."""
    with pytest.raises(FileError, match=told) as caught:
        table(toml, csv).cells(resolve, lacking)
    assert "\n" not in str(caught.value)


def test_a_table_in_a_folder_of_papers_names_its_paper(monkeypatch, tmp_path):
    """Without `paper` its printed values would never be compared, and nobody would be told."""
    monkeypatch.setattr("unlearnable_bench.results.table_file.PAPERS", tmp_path)
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "table-1.toml"
    text = (PAPERS / "d-vae" / "table-2.toml").read_text(encoding="utf-8")
    for line, told in (("", "no `paper`"), ('paper = "yours"', '`paper` is "yours"')):
        path.write_text(text.replace('paper = "d-vae"', line), encoding="utf-8")
        with pytest.raises(FileError, match=f'table-1.toml: {told}; a table in this folder says `paper = "mine"`'):
            read_table(str(path))


def test_a_blank_line_at_the_end_of_the_values_does_no_harm(table):
    """Editors and spreadsheets leave one."""
    last = CSV.splitlines()[-1]
    assert table({}, {last: f"{last}\n\n"}).requests == table().requests


def test_a_field_that_an_entry_does_not_have_yet_makes_a_cell_not_available(table):
    """`em(variant=rem)` was such a field before `em` had variants: the table is right, the program is behind."""
    grid = table({'"lsp(': '"em(not_written_yet=rem,'})
    assert {reason for _, reason in grid.absent(resolve, lacking)} == {"not available: attack em has no field not_written_yet"}


def test_a_grid_that_is_not_there_comes_with_its_neighbour():
    """A typing error in a long name."""
    with pytest.raises(FileError, match=r"there is no grid 'd-vae/tabel-2'; did you mean 'd-vae/table-2'\?"):
        read_grid("d-vae/tabel-2")


def test_a_paper_table_without_values_is_refused(tmp_path):
    """A layout alone is no reference."""
    (tmp_path / "mine.toml").write_text(TOML)
    with pytest.raises(FileError, match=r"has no mine\.csv beside it; add the values as they are printed"):
        read_table(str(tmp_path / "mine.toml"))


def test_what_an_item_lacks_is_told_entry_by_entry():
    """An entry that is to come, and a field that one has not got yet, in one chain."""
    chain = "em(not_written_yet=rem,seed=0)+not-written-yet(mode=inter)"
    assert lacking("attacks", chain) == [("em", "not_written_yet"), ("not-written-yet", "")]
    assert lacking("defenses", "jpeg(quality=10)+at(epsilon=2/255)") == lacking("datasets", "folder:/tmp/x(size=32)") == []


def test_a_papers_table_runs_on_images_of_ones_own(tmp_path, hide):
    """`--dataset cifar10=folder:PATH`: the path is remembered, not told. What is not available is not in the way."""
    hide(DEFENSES, "grayscale")
    for part, name, number in ((p, c, n) for p in ("train", "test") for c in "ab" for n in range(2)):
        path = tmp_path / part / name / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (40 * number, 0, 0)).save(path)
    grid = read_grid("d-vae/table-2").selected(
        {"dataset": [f"cifar10=folder:{tmp_path}"], "attack": ["OPS"], "seed": ["0"]}, resolve
    )
    assert grid.absent(resolve, lacking)
    cells, roots = expand(grid)
    assert list(roots.values()) == [str(tmp_path)] and {cell.dataset.name for cell in cells} == set(roots)
