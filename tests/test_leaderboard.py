"""Records to a table and its pages, with real records in real files."""

import base64
import dataclasses
import io
import itertools
import json
import re
import shutil
import subprocess
import sys
import zlib
from html.parser import HTMLParser
from statistics import stdev
from xml.etree import ElementTree

import html5lib
import jinja2
import numpy as np
import pandas as pd
import pytest
import rich
from conftest import as_data, poison, recipe, tiny
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from PIL import Image
from tables import with_fields

from unlearnable_bench import registry, results
from unlearnable_bench.leaderboard.formats import escaping, figures
from unlearnable_bench.leaderboard.formats import text as formats
from unlearnable_bench.leaderboard.formats.bibtex import bibliography, bibtex
from unlearnable_bench.leaderboard.formats.pdf import pdf
from unlearnable_bench.leaderboard.formats.svg import LETTER, LINE
from unlearnable_bench.leaderboard.pages import gallery, table_page
from unlearnable_bench.leaderboard.pages.cells import tint
from unlearnable_bench.leaderboard.pages.change_sizes import VALUES, ChangeSize, similarity
from unlearnable_bench.leaderboard.pages.coverage import in_plain_trainings
from unlearnable_bench.leaderboard.pages.frame import NAVIGATION
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.pages.strips import Strip
from unlearnable_bench.leaderboard.tables.measured import grid_table, other_tables
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.leaderboard.tables.remarks import remarks
from unlearnable_bench.leaderboard.tables.table import distinct, slugged
from unlearnable_bench.poisons.recipe import PurifiedRecipe
from unlearnable_bench.poisons.store import Store
from unlearnable_bench.registry.data import load
from unlearnable_bench.results import read_grid
from unlearnable_bench.results.record import Curve, Failure, Metrics, PoisonNote, Record, Records

EVIL = "<script>alert(1)</script> | a\\|b $x$ \\input{y} `c` [l](http://evil.example) ![i](x) **b** & \n\n# h"
TABLE = with_fields(
    results.read_table("quick"),
    attack=["none", "ops", "random-noise(kind=class)"],
    defense=["none", "grayscale", "bdr(bits=2)"],
    seed=[0, 1],
    ranks=True,
)


def cells(table=TABLE):
    """The cells of a table by (attack, defense, seed), names only."""
    found = results.Grid.of(table).cells(registry.resolve, registry.lacking)
    return {(cell.attack[0].name, cell.defense[0].name, cell.seed): cell for cell in found}


def record(cell, accuracy=0.5, **changes):
    """A record as a run writes it."""
    curve = [accuracy / 2, min(1.0, accuracy + 0.1), accuracy]
    versions = {"torch": "2.11", f"attack:{cell.attack[0].name}": "1", f"defense:{cell.defense[0].name}": "1"}
    fields = {
        "id": cell.id,
        "cell": cell,
        "metrics": Metrics(test_acc=accuracy, test_acc_best=max(curve), curve=Curve(test_acc=curve)),
        "seconds": {"craft": 1.0, "train": 2.0},
        "cpu_seconds": {"train": 1.5},
        "device": "cpu: a processor",
        "numerics": {"dtype": "fp32", "compile": False, "threads": 1},
        "versions": versions,
        "poison": PoisonNote(checksum="c0ffee" * 10, norm="linf", spent=8 / 255, allowed=8 / 255),
        "commit": "abc123",
        "tree": "def456",
        "finished": "2026-01-02T03:04:05+00:00",
    }
    return Record(**fields | changes)


ACCURACY = {"none": 0.9, "ops": 0.2, "random-noise": 0.6}


@pytest.fixture
def full(tmp_path):
    """The records of a whole grid: clean 90%, ops 20%, random noise 60%, each defense 1 point more, seed 1 2 points more."""
    records = Records(tmp_path)
    fill(records)
    return records


def fill(records):
    for (attack, defense, seed), cell in cells().items():
        extra = ["none", "grayscale", "bdr"].index(defense) / 100 + seed / 50
        records.write(record(cell, ACCURACY[attack] + extra))


def made(records, table=TABLE):
    return grid_table(results.Grid.of(table), records, "quick", registry.resolve)


def html(*boards):
    """The pages of boards, one behind the other."""
    site = Site(distinct(boards))
    return "".join(site.table_page(b) for b in site.measured_tables)


def every_text(b):
    files = Site([b]).files().values()
    return [*(str(text) for text in files), formats.markdown(b), formats.csv(b), formats.json_(b), formats.latex(b)]


def test_a_seed_that_was_added_shows_in_the_table_of_its_grid(full):
    """`bench run --grid G --seed 2` adds to G's numbers; a seed that nobody ran is not missing, a damaged record hides none."""
    more = cells(with_fields(TABLE, seed=[2]))["ops", "none", 2]
    full.write(record(more, 0.3))
    (full.folder / "0123456789abcdef.json").write_text("{")
    b = made(full)
    score = b.scores[("ops",), ("none",)]
    assert [run.cell.seed for run in score.runs] == [0, 1, 2] and score.state == "done"
    assert b.scores[("ops",), ("bdr",)].n == 2 and b.coverage["missing"] == 0
    assert not other_tables(full, b.shown)


def test_mean_spread_and_drop_are_those_of_the_seeds(full):
    """The numbers that people cite: sample deviation over seeds, and points below the clean row of the same column."""
    b = made(full)
    value = b.scores[("ops",), ("grayscale",)]
    assert value.state == "done" and value.reason == ""
    assert value.accuracies == pytest.approx((0.21, 0.23)) and value.n == 2
    assert value.mean == pytest.approx(0.22) and value.std == pytest.approx(stdev([0.21, 0.23]))
    assert value.best == pytest.approx(0.32) and value.seconds == 6.0
    assert value.drop == pytest.approx(0.7) and b.scores[("none",), ("grayscale",)].drop is None
    assert value.records == tuple(cells()["ops", "grayscale", seed].id for seed in (0, 1))
    assert b.rows == (("none",), ("ops",), ("random-noise",)) and b.columns[:2] == (("none",), ("grayscale",))
    assert b.fixed == {"protocol": "quick", "dataset": "digits", "ratio": "1", "part": "all", "architecture": "small-cnn"}
    assert "22.0 ± 1.4" in html(b) and "<small>−70.0</small>" in html(b)  # noqa: RUF001


def test_one_seed_has_no_spread_and_no_rank(tmp_path):
    """A single run must not look as if its spread were known to be nothing."""
    records, table = Records(tmp_path), with_fields(TABLE, seed=[0])
    for cell in cells(table).values():
        records.write(record(cell, 0.5))
    b = made(records, table)
    assert all(value.std is None and value.n == 1 for value in b.scores.values())
    assert all(standing.rank is None for standing in b.ranking.values())
    assert "±" not in re.sub(r"±0.0", "", formats.markdown(b)) and "no spread is known" in html(b)


def test_attacks_are_ranked_once_all_are_done_and_share_ranks_where_spreads_overlap(full):
    """A rank among half of the rows, or one that noise decides, would be quoted as a finding."""
    standings = made(full).ranking
    assert (standings["ops",].rank, standings["random-noise",].rank, standings["none",].rank) == (1, 2, None)
    assert standings["ops",].worst == "bdr" and standings["ops",].worst_case == pytest.approx(0.23)
    assert standings["ops",].clean is None and standings["ops",].mean == pytest.approx(0.22)
    for (attack, _, seed), cell in cells().items():
        if attack == "random-noise":
            full.write(record(cell, 0.22 + 0.04 * seed), replace=True)
    assert {s.rank for name, s in made(full).ranking.items() if name != ("none",)} == {1}
    full.path(cells()["ops", "bdr", 1].id).unlink()
    assert all(standing.rank is None for standing in made(full).ranking.values())


def test_a_column_that_does_not_apply_to_one_attack_counts_for_none(full):
    """Else an attack ranks well because the defense that beats it could not be run."""
    for seed in (0, 1):
        cell = cells()["ops", "bdr", seed]
        full.write(record(cell, state="not-applicable", metrics=None, reason="too few levels"), replace=True)
    standings = made(full).ranking
    assert {s.over for s in standings.values()} == {2}
    assert standings["random-noise",].mean == pytest.approx(0.615) and standings["ops",].rank == 1


def test_what_is_missing_says_how_to_run_it(tmp_path):
    """Nobody should have to guess whether a gap is a failure or not run yet."""
    b = made(Records(tmp_path / "none"))
    value = b.scores[("ops",), ("none",)]
    assert (value.state, value.mean, value.drop, value.std) == ("missing", None, None, None)
    assert value.reason == "not run yet: `bench run --grid quick`"
    assert b.coverage == {"cells": 18, "done": 0, "stale": 0, "failed": 0, "not-applicable": 0, "missing": 18}
    page = html(b)
    assert page.count("not run yet</small>") == 9 and "<code>bench run --grid quick</code>" in page
    assert "`bench run --grid quick`" in formats.markdown(b)


def test_some_seeds_are_shown_as_some(full):
    """A mean over fewer seeds than its neighbours' must say so."""
    cell = cells()["ops", "none", 1]
    full.path(cell.id).unlink()
    value = made(full).scores[("ops",), ("none",)]
    assert value.state == "partial" and value.mean == pytest.approx(0.2) and value.n == 1
    assert value.reason == "1 of 2 seeds; seed 1 not run yet: `bench run --grid quick`"
    assert "1 of 2 seeds</small>" in html(made(full))


def test_a_failure_and_a_cell_that_does_not_apply_say_why(full):
    """Empty cells always have a visible reason."""
    for seed in (0, 1):
        broken, other = cells()["ops", "none", seed], cells()["ops", "grayscale", seed]
        full.path(broken.id).unlink()
        full.fail(Failure(id=broken.id, cell=broken, kind="out-of-memory", message="tried\n  2 GiB"))
        full.write(record(other, state="not-applicable", metrics=None, reason="needs three channels"), replace=True)
    b = made(full)
    failed, absent = b.scores[("ops",), ("none",)], b.scores[("ops",), ("grayscale",)]
    assert (failed.state, failed.reason, failed.mean) == ("failed", "out-of-memory: tried 2 GiB", None)
    assert (absent.state, absent.reason, absent.mean) == ("not-applicable", "needs three channels", None)
    page = html(b)
    assert "failed: out-of-memory</small>" in page and "not applicable: needs three channels</small>" in page
    assert b.coverage["failed"] == 2 and b.coverage["not-applicable"] == 2


def test_numbers_of_another_version_are_marked_and_never_mixed_with_others(full):
    """After a fix of an attack its old numbers must not pass for new ones, nor be averaged with them."""
    one, two = (cells()["ops", "none", seed] for seed in (0, 1))
    full.write(record(one, 0.4, versions={"attack:ops": "0"}), replace=True)
    value = made(full).scores[("ops",), ("none",)]
    assert value.state == "partial" and value.accuracies == pytest.approx((0.22,))
    assert "seed 0 stale: attack:ops was version 0, now it is 1" in value.reason
    full.write(record(two, 0.6, versions={"attack:ops": "0 of someones-attacks 1.2"}), replace=True)
    b = made(full)
    value = b.scores[("ops",), ("none",)]
    assert value.state == "stale" and value.mean == pytest.approx(0.5) and value.drop is None
    assert "50.0 ± 14.1" in html(b) and "stale</small>" in html(b)
    assert b.ranking["ops",].rank is None


def test_versions_of_unknown_entries_are_not_stale(full):
    """A record of somebody's plug-in stays good on a machine that lacks the plug-in; so do folders of images."""
    cell = cells()["ops", "none", 0]
    versions = {"attack:nobody-has-this": "7", "dataset:folder-cats-0123abcd": "1", "python": "3.11", "kind:x": "2"}
    full.write(record(cell, 0.2, versions=versions), replace=True)
    assert made(full).scores[("ops",), ("none",)].state == "done"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[" * 100_000, '"\\ud800"', '{"id": 3}', '{"format": 1, "id": "0", "cell": {}}']
)
def test_a_damaged_record_is_a_failed_cell_and_the_rest_is_shown(full, content):
    """One broken file must not take the page with it, and pages do not tell where the workspace lies."""
    for seed in (0, 1):
        full.path(cells()["ops", "none", seed].id).write_text(content)
    b = made(full)
    value = b.scores[("ops",), ("none",)]
    assert value.state == "failed" and value.mean is None and "remove the file" in value.reason
    assert str(full.folder) not in "".join(every_text(b))
    assert b.coverage["done"] == 16
    assert other_tables(full, b.shown) == []


def test_a_damaged_failure_beside_a_record_hides_no_number(full):
    """What is left of an old attempt says nothing about the number. Alone it is a failed cell, and names the file."""
    cell = cells()["ops", "none", 0]
    full.failure_path(cell.id).write_text("{")
    value = made(full).scores[("ops",), ("none",)]
    assert (value.state, value.n) == ("done", 2)
    full.path(cell.id).unlink()
    value = made(full).scores[("ops",), ("none",)]
    assert (value.state, value.n) == ("partial", 1)
    assert f"damaged record of a failure: {cell.id}.failed.json" in value.reason and str(full.folder) not in value.reason


def test_records_outside_the_grids_get_boards_of_their_own(full):
    """Ad-hoc runs show up, clean first, and a combination that nobody ran says so."""
    b = made(full)
    assert other_tables(full, b.shown) == []
    table = with_fields(TABLE, attack=["ops", "none"], defense=["cutout", "none"], ratio=[0.5])
    for (attack, defense, _), cell in cells(table).items():
        if (attack, defense) != ("ops", "none"):
            full.write(record(cell, 0.7))
    (full.folder / "stray.json").write_text("{}")
    (extra,) = other_tables(full, b.shown)
    assert extra.rows == (("none",), ("ops",)) and extra.columns == (("none",), ("cutout",)) and extra.fixed["ratio"] == "0.5"
    assert extra.scores[("ops",), ("none",)].reason == "no record" and extra.scores[("ops",), ("cutout",)].n == 2
    assert extra.scores[("ops",), ("cutout",)].drop == pytest.approx(0)
    page = html(b, extra)
    assert "no record</small>" in page and "ratio 0.5" in page


def test_clean_training_is_sought_in_all_records_and_not_in_one_board(full):
    """A run by itself is compared with the clean training that a grid has: a change from it, and colours that end there."""
    grid = made(full)
    alone = with_fields(TABLE, attack=["lsp"], defense=["grayscale"])
    for cell in cells(alone).values():
        full.write(record(cell, 0.3))
    (extra,) = other_tables(full, grid.shown)
    value = extra.scores[("lsp",), ("grayscale",)]
    assert value.reference == grid.scores[("none",), ("grayscale",)].mean and value.drop == pytest.approx(0.62)
    assert extra.top == grid.top and not extra.ranking  # one column ranks nothing
    assert made(full, alone).scores[("lsp",), ("grayscale",)].drop == value.drop
    page = Site([grid, extra]).files()["attack.lsp.html"]
    assert "−62.0" in page and "no clean record" not in page  # noqa: RUF001


def test_a_blank_beside_an_accuracy_gives_its_own_reason(full):
    """Nobody trained on clean images, the number is stale, or it is clean training: three sentences."""
    for seed in (0, 1):
        full.path(cells()["none", "bdr", seed].id).unlink()
        old = {"attack:ops": "0", "defense:none": "1"}
        full.write(record(cells()["ops", "none", seed], 0.2, versions=old), replace=True)
    values = {(row[0], column[0]): score for (row, column), score in made(full).scores.items()}
    assert values["ops", "bdr"].why_no_drop == "no clean record" and values["ops", "none"].why_no_drop == "stale"
    assert values["none", "none"].why_no_drop == "is clean" and values["none", "bdr"].why_no_drop == "is clean"
    assert values["ops", "grayscale"].why_no_drop == "" and values["ops", "grayscale"].drop is not None


def test_a_name_is_not_cut_at_parentheses_inside_parentheses():
    """An attack made on another dataset holds a spec in a spec."""
    spec = escaping.environment("html").filters["spec"]
    assert spec("em(a=1,dataset=jpeg(q=2))+transfer").replace("<wbr>", "") == (
        "em<span class=args>(a=1,dataset=jpeg(q=2))</span>+transfer"
    )
    assert escaping.parenthesized(") a(b)(c(d)) (e") == [") a", "(b)", "", "(c(d))", " ", "(e"]


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex here; Debian: texlive-latex-base")
def test_a_board_in_latex_is_no_wider_than_its_page(tmp_path):
    """Long names are shortened, with what they stand for below, and what is still too wide is scaled."""
    records = Records(tmp_path)
    wide = with_fields(TABLE, defense=[f"at(steps=3,epsilon={radius}/255)" for radius in range(1, 13)], seed=[0])
    for cell in results.Grid.of(wide).cells(registry.resolve, registry.lacking):
        records.write(record(cell, 0.5))
    text = formats.latex(made(records, wide))
    assert "AT 1/255" in text.partition("\\midrule")[0] and "steps=3" not in text.partition("\\midrule")[0]
    packages = "\\usepackage[T1]{fontenc}\\usepackage{booktabs,graphicx}"
    whole = f"\\documentclass{{article}}{packages}\\begin{{document}}\n{text}\\end{{document}}\n"
    (tmp_path / "board.tex").write_text(whole, encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "board.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", timeout=120)
    assert done.returncode == 0 and "Overfull" not in done.stdout, done.stdout[-1500:]


def test_two_things_under_one_text_are_never_averaged(tmp_path):
    """Texts in records are other people's, and defaults change: only what hashes alike shares a place."""
    records, cell = Records(tmp_path), cells()["ops", "none", 0]
    other = cell.model_copy(update={"attack": (cell.attack[0].model_copy(update={"fields": {"x": 1}}),)})
    posing = cell.model_copy(update={"attack": (results.Part(name="ops", fields={"y": 2}, text="none"),)})
    for one, accuracy in ((cell, 0.1), (other, 0.2), (posing, 0.3)):
        records.write(record(one, accuracy))
    (extra,) = other_tables(records, set())
    assert {round(value.mean, 1) for value in extra.scores.values()} == {0.1, 0.2, 0.3} and len(extra.rows) == 3
    assert not any(value.clean for value in extra.scores.values())


def test_an_axis_without_a_place_in_the_layout_becomes_rows(full):
    """Nothing but seeds is ever averaged, and protocols are never mixed in a ranking."""
    table = with_fields(TABLE, protocol=["quick", "quick@0.5"])
    b = made(full, table)
    assert b.row_axes == ("attack", "protocol") and ("ops", "quick@0.5") in b.rows and len(b.rows) == 6
    assert b.scores[("ops", "quick"), ("none",)].n == 2 and b.scores[("ops", "quick@0.5"), ("none",)].state == "missing"
    assert b.ranking["ops", "quick"].rank == 1 and b.ranking["ops", "quick@0.5"].rank is None


class Tags(HTMLParser):
    """Collects tags, ids and links, and says whether every tag is closed where it should be."""

    VOID = frozenset({"meta", "link", "br", "wbr", "img", "hr", "input"})

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.links, self.ids, self.inline, self.scripts = [], set(), [], [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attributes):
        self.note(tag, attributes)

    def handle_starttag(self, tag, attributes):
        self.note(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append([dict(attributes), ""])

    def handle_data(self, text):
        if self.open[-1:] == ["script"]:
            self.scripts[-1][1] += text

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def note(self, tag, attributes):
        self.seen.add(tag)
        self.links += [(tag, value) for key, value in attributes if key in ("href", "src", "action", "srcset", "data")]
        self.ids += [value for key, value in attributes if key == "id"]
        self.inline += [key for key, _ in attributes if key.startswith("on") or key == "style"]


def evil(records):
    """Fill every free text of records with what would break a page; return the boards."""
    table = with_fields(TABLE, note=EVIL, title=EVIL)
    for (_, defense, seed), cell in cells(table).items():
        changes = {
            "device": EVIL,
            "commit": EVIL,
            "tree": EVIL,
            "finished": EVIL,
            "versions": {EVIL: EVIL},
            "numerics": {EVIL: EVIL},
        }
        note = PoisonNote(checksum=EVIL, norm=EVIL)
        if defense == "none":
            changes |= {"state": "not-applicable", "metrics": None, "reason": EVIL}
        if defense == "grayscale" and seed == 0:
            records.fail(Failure(id=cell.id, cell=cell, kind=EVIL, message=EVIL, log=EVIL))
        else:
            records.write(record(cell, 0.5, poison=note, **changes), replace=True)
    plain = cells()["none", "none", 0]
    named = plain.model_copy(update={"attack": (results.Part(name=EVIL, fields={EVIL: EVIL}, text=EVIL),)})
    formula = plain.model_copy(update={"attack": (results.Part(name="=cmd()", fields={}, text="=cmd()"),)})
    records.write(record(named))
    records.write(record(formula))
    b = made(records, table)
    return [b, *other_tables(records, b.shown)]


def test_strings_of_records_are_inert_in_html(tmp_path):
    """Records come from strangers: nothing of them may run, load or leave its place, on any page."""
    files = Site(evil(Records(tmp_path))).files()
    assert "&lt;script&gt;alert(1)" in files["index.html"]
    for name, text in files.items():
        assert re.fullmatch(r"((data|badge)/)?[a-z0-9._-]+", name)
        if name.endswith(".svg"):
            ElementTree.fromstring(text)  # noqa: S314  (our own)
        if not name.endswith(".html"):
            continue
        tags = Tags(text)
        assert "img" not in tags.seen and "b" not in tags.seen and tags.inline == []
        assert not any("evil.example" in link and ":" in link for _, link in tags.links)
        for attributes, script in tags.scripts:
            assert script == escaping.asset("site.js") or (
                attributes["type"] == "application/json" and json.loads(script) is not None
            )


def test_strings_of_records_are_inert_in_markdown(tmp_path):
    """The file is read on code hosts: no tags, no links, and every row keeps its columns."""
    for b in evil(Records(tmp_path)):
        tokens = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").parse(formats.markdown(b))
        flat = [inner for token in tokens for inner in (token, *(token.children or ()))]
        kinds = {token.type for token in flat}
        assert not kinds & {"html_block", "html_inline", "link_open", "image"}
        assert sum(token.type == "heading_open" for token in tokens) == 1
        cells_ = sum(token.type in ("td_open", "th_open") for token in tokens)
        assert cells_ == (len(b.rows) + 1) * (len(b.columns) + 1)
        assert "http://" not in re.sub(r"`[^`]*`", "", formats.markdown(b))  # code hosts link bare addresses


MARKED = st.text(st.sampled_from("<>|&`*_[]()!\\~#$:/.- \nab"), max_size=20)


@given(MARKED)
def test_markdown_prints_any_text_as_it_is_also_inside_a_table(text):
    """Escaping too little breaks the table, too much shows backslashes."""
    page = f"| x | y |\n| --- | --- |\n| .{escaping.escape_markdown(text)}. | y |\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    inside = [token for token in tokens if token.type == "inline"]
    assert len(inside) == 4 and {child.type for child in inside[2].children} == {"text"}
    assert "".join(child.content for child in inside[2].children) == "." + re.sub(r"\s+", " ", text) + "."


@given(MARKED)
@example("```<b>`")  # three in a row open nothing, so what follows would be bare
def test_words_between_backticks_become_code_and_nothing_else(text):
    """Reasons carry commands; a stray backtick must not turn the rest of the page into code."""
    for form in ("html", "md"):
        printed = escaping.environment(form).from_string("{{ text | code }}").render(text=text)
        if form == "html":
            assert Tags(printed).seen <= {"code"}
        else:
            tokens = MarkdownIt("commonmark").parseInline(f".{printed} ` end")[0].children
            assert {token.type for token in tokens} <= {"text", "code_inline", "softbreak"}
            assert tokens[-1].content.endswith("` end")


def test_strings_of_records_are_inert_in_latex(tmp_path):
    """A table that is pasted into a paper must compile, and run no command of a record's author."""
    for b in evil(Records(tmp_path)):
        text = formats.latex(b)
        commands = set(re.findall(r"\\([a-zA-Z]+)", text))
        ours = {"begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "tiny", "textbf"}
        ours |= {"usepackage", "smallskip", "footnotesize", "texttt", "pm", "times", "ldots"}
        ours |= {"resizebox", "ifdim", "width", "linewidth", "else", "fi"}
        assert commands <= ours | {"textbackslash", "textless", "textgreater", "textbar", "textasciigrave"}
        bare = re.sub(r"\\[\\{}$&#_%]", "", text)  # without what is escaped
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0 and "#" not in bare
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert all(len(re.findall(r"(?<!\\)&", row)) == len(b.columns) for row in rows) and len(rows) == len(b.rows) + 1


def test_a_spreadsheet_runs_nothing_of_a_record(tmp_path):
    """Cells that begin like a formula are text."""
    texts = [formats.csv(b) for b in evil(Records(tmp_path))]
    assert any("'=cmd()" in text for text in texts) and not any(re.search(r"(^|,)\"?[=@]", text, re.M) for text in texts)


def test_an_undefined_name_in_a_template_is_an_error(full):
    """A typing error in a template must not publish an empty place."""
    for form, source in (("html", "{{ nobody }}"), ("md", "{{ nobody }}"), ("tex", "<< nobody >>")):
        with pytest.raises(jinja2.UndefinedError):
            escaping.environment(form).from_string(source).render()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The files of a site of two boards with every state in them, a changelog and pictures."""
    records = Records(tmp_path_factory.mktemp("records"))
    fill(records)
    broken, other, old = (cells()[key] for key in (("ops", "none", 0), ("ops", "grayscale", 0), ("random-noise", "bdr", 1)))
    records.path(broken.id).unlink()
    records.fail(Failure(id=broken.id, cell=broken, kind="out-of-memory", message="tried 2 GiB"))
    records.write(record(other, state="not-applicable", metrics=None, reason="needs three channels"), replace=True)
    records.write(record(old, 0.4, versions={"attack:random-noise": "0"}), replace=True)
    for ratio, accuracy in ((0.2, 0.8), (0.6, 0.5)):
        for cell in cells(with_fields(TABLE, ratio=[ratio])).values():
            records.write(record(cell, accuracy))
    b = made(records)
    strip = Strip("data:image/png;base64,AA==", "clean", "Ten images", 3, 1)
    samples = {"attack.ops": [gallery.Sample("ops", "digits", [strip])]}
    return Site(
        [b, *other_tables(records, b.shown)], samples=samples, changelog="# Changelog\n\nWhy.\n\n- `em` [moved](x.md)\n  up\n"
    ).files()


def test_every_page_is_valid_html(site):
    """A browser must not have to guess; the parser is that of the standard."""
    kinds = {}
    for name in site:
        if name.endswith(".html"):
            kinds.setdefault(name.split(".")[0] + str(name.endswith("defenses.html")), []).append(name)
    for names in kinds.values():
        for name in names[:3]:
            parser = html5lib.HTMLParser()
            parser.parse(site[name])
            assert parser.errors == [], (name, parser.errors[:3])


def test_pages_load_nothing_and_their_links_lead_somewhere(site):
    """The site works from a disk, without network and scripts; only papers are linked elsewhere."""
    papers = {row.paper.url for catalog in registry.CATALOGS.values() for row in catalog.rows if row.paper}
    read = {name: Tags(text) for name, text in site.items() if name.endswith(".html")}
    for name, tags in read.items():
        assert site[name].startswith("<!doctype html>") and '<html lang="en">' in site[name] and 'name="viewport"' in site[name]
        assert {"main", "header", "footer", "nav", "h1"} <= tags.seen and len(tags.ids) == len(set(tags.ids))
        for tag, link in tags.links:
            file, _, anchor = link.partition("#")
            if tag == "a" and link in papers:
                continue
            if tag in ("img", "link"):
                assert link.startswith("data:")
            elif (file or name).endswith(".html"):
                is_view = file == "compare.html" and "=" in anchor  # which the script reads
                assert not anchor or is_view or anchor in read[file or name].ids, (name, link)
            else:
                assert file in site, (name, link)
        assert "url(" not in site[name] and "@import" not in site[name] and "fetch(" not in site[name]


def test_the_policy_lets_our_own_style_and_script_through_and_nothing_else(site):
    """What somebody smuggles into a page is neither run nor applied, also from file://, where a page is nobody's origin."""
    for name, text in site.items():
        if name.endswith(".html"):
            (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
            rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
            (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
            scripts = [script for attributes, script in Tags(text).scripts if "type" not in attributes]
            assert rules["default-src"] == "'none'" and rules["img-src"] == "data:" and rules["form-action"] == "'none'"
            assert rules["connect-src"] == "'self'", "a browser that judges a page asks for robots.txt in its name"
            assert rules["style-src"] == f"'{escaping.policy_hash(style)}'"
            assert [rules[key] for key in ("script-src",) if key in rules] == [f"'{escaping.policy_hash(s)}'" for s in scripts]


def test_every_number_leads_to_all_that_made_it(full):
    """Readers must be able to check and repeat any number from the pages alone."""
    b = made(full)
    files = Site([b]).files()
    linked = {link for _, link in Tags(files["index.html"]).links if link.startswith("sources.")}
    assert len(linked) == len(b.scores)
    sources = "".join(text for name, text in files.items() if name.startswith("sources."))
    for (row, column), value in b.scores.items():
        (link,) = {link for link in linked if link.endswith(f"#c-{value.runs[0].id}")}
        page, _, anchor = link.partition("#")
        section = files[page].partition(f'id="{anchor}"')[2].partition("</section>")[0]
        assert row[0].partition("(")[0] in section and column[0].partition("(")[0] in section
        assert all(f"<code>bench run --cell {run.id}</code>" in section for run in value.runs)
    for fact in (
        "cpu: a processor",
        "dtype fp32",
        "abc123",
        "def456",
        "c0ffee" * 10,
        "2.11",
        "craft 1.0, train 2.0 (CPU 1.5)",
        "<polyline",
    ):
        assert fact in sources
    data = json.loads(next(text for attributes, text in Tags(files["index.html"]).scripts if attributes.get("id") == "data"))
    run = data["cells"][cells()["ops", "grayscale", 0].id][0]
    assert run["acc"] == pytest.approx(0.21) and run["curve"] == [105, 310, 210]
    assert data["shared"][run["shared"][0]]["poison"] == "c0ffee" * 10
    assert run["seconds"] == "craft 1.0, train 2.0 (CPU 1.5)"
    assert len(files["index.html"]) < 100_000


def test_a_defender_sees_ranks_and_worst_cases_of_defenses(full):
    """The same numbers from the other side: high is good, clean training is no attack, and the lowest is the worst case."""
    turned = made(full).transposed()
    assert turned.rows in ((("none",), ("grayscale",), ("bdr(bits=2)",)), (("none",), ("grayscale",), ("bdr",)))
    standing = turned.ranking["grayscale",]
    assert (standing.worst, standing.over) == ("ops", 2) and standing.worst_case == pytest.approx(0.22)
    assert standing.mean == pytest.approx((0.22 + 0.62) / 2) and standing.clean == pytest.approx(0.92)
    assert {s.rank for s in turned.ranking.values()} == {1}  # one point apart, seeds two points apart
    for seed in (0, 1):
        for attack in ("ops", "random-noise"):
            full.write(record(cells()[attack, "grayscale", seed], 0.8 + seed / 100), replace=True)
    standings = made(full).transposed().ranking
    assert standings["grayscale",].rank == 1 and {s.rank for row, s in standings.items() if row != ("grayscale",)} == {2}
    page = Site([made(full)]).files()["quick.defenses.html"]
    assert "Rows: defense. Columns: attack." in page and page.count("▲") == 3 + 1  # one per row, one in the legend


def test_boards_link_to_the_board_that_differs_in_one_axis(full):
    """Switching the dataset must not lose the architecture that one looks at."""
    point = {"protocol": "p", "dataset": "a", "ratio": "1", "part": "all", "architecture": "x"}
    shapes = [point, point | {"dataset": "b", "architecture": "y"}, point | {"dataset": "b"}]
    several = [dataclasses.replace(made(full), slug=f"s{k}", fixed=fixed) for k, fixed in enumerate(shapes)]
    axes = {
        one.axis: {option.text: option.file for option in one.options}
        for one in table_page.switches(several, several[0], "attack")
    }
    assert axes == {"dataset": {"a": "s0.html", "b": "s2.html"}, "architecture": {"x": "s0.html", "y": "s1.html"}}


def test_an_entry_has_a_page_with_what_it_is_and_all_its_cells(site):
    """Where a reader who clicks a name expects to learn what it is."""
    page = site["attack.ops.html"]
    for text in (
        "OPS: one-pixel shortcut.",
        "find the pixel and the extreme colour",
        "ties go to the first position",
        "pixels",
        "data:image/png;base64,AA==",
        "Accuracy over the protection ratio",
    ):
        assert text in page
    assert page.count('href="sources.ops.html#c-') == 3 * 3  # three defenses at three ratios
    assert "bench craft lsp" in site["attack.lsp.html"] and "Nothing is measured yet" in site["attack.lsp.html"]
    assert {f"defense.{row.name}.html" for row in registry.DEFENSES.rows} <= set(site)
    assert {f"architecture.{row.name}.html" for row in registry.ARCHITECTURES.rows} <= set(site)


def test_coverage_cost_and_changes_name_what_is_wrong(site):
    """What is missing, what it took, and what is about to move, in one place each."""
    assert "out-of-memory: tried 2 GiB" in site["coverage.html"] and "times plain training" in site["coverage.html"]
    assert "attack:random-noise was version 0" in site["changes.html"]
    assert "<code>em</code> moved up" in site["changelog.html"] and "x.md" not in site["changelog.html"]
    assert "wait to be measured again" in site["changes.html"] and "learning rate" in site["protocols.html"]


def test_a_figure_is_well_formed_and_its_names_do_not_cover_each_other(full):
    """Figures are also files of their own: XML, with their colours inside for light and dark."""
    b = made(full)
    files = {name: text for name, text in Site([b]).files().items() if name.endswith(".svg")}
    curves = {f"defense.{name}.curve-1" for name in ("none", "grayscale", "bdr")} | {
        f"attack.{name}.curve-1" for name in ("none", "ops", "random-noise")
    }
    assert set(files) == {f"{name}.svg" for name in ("quick.heat", "quick.pareto", *curves)}
    for text in files.values():
        root = ElementTree.fromstring(text)  # noqa: S314  (our own)
        assert root.tag.endswith("svg") and "prefers-color-scheme: dark" in text and root.find("{*}title").text
    same = [figures.Line(f"line {k}", [(1, 0.5), (2, 0.5)]) for k in range(12)]
    heights = sorted(float(y) for y in re.findall(r'class="name[^"]*" x="[\d.]+" y="([\d.]+)"', figures.lines("t", "x", same)))
    assert len(heights) == 12 and min(b - a for a, b in itertools.pairwise(heights)) >= LINE - 0.2
    assert heights[0] > 0 and heights[-1] < figures.HEIGHT


def test_every_figure_is_a_pdf_too_with_all_its_texts_and_shapes(full):
    """For papers: what stands in the SVG stands in the PDF, letters as letters, and the same figure gives the same file."""
    files = Site([made(full)]).files()
    assert {name[:-4] for name in files if name.endswith(".pdf")} == {name[:-4] for name in files if name.endswith(".svg")}
    for name in (name for name in files if name.endswith(".svg")):
        root = ElementTree.fromstring(files[name])  # noqa: S314  (our own)
        drawn = content(files[name.replace(".svg", ".pdf")])
        for text in root.findall(".//{*}text"):
            assert f"({escaped(text.text)}) Tj" in drawn, text.text
        assert drawn.count(" re ") == len(list(root.findall(".//{*}rect")))
        assert len(re.findall(r" c\b", drawn)) == 4 * len(list(root.findall(".//{*}circle")))  # four arcs
    strange = figures.lines("t", "x", [figures.Line("(a)\\ \u4e2d \u2212 <b>", [(0, 0.1), (1, 0.2)])])
    assert f"({escaped('(a)')}" in content(pdf(strange)) and content(pdf(strange)).count("? - <b>") == 1
    assert pdf(strange) == pdf(strange)


def content(made):
    """The drawing commands of a PDF."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", made, re.DOTALL)
    return "".join(zlib.decompress(base64.a85decode(b"<~" + one.strip(), adobe=True)).decode("latin-1") for one in streams)


def escaped(text):
    """Text as a PDF writes it."""
    plain = text.encode("cp1252").decode("latin-1")
    for sign in "\\()":
        plain = plain.replace(sign, f"\\{sign}")
    return "".join(one if ord(one) < 128 else f"\\{ord(one):03o}" for one in plain)


@given(values=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=40), long=st.integers(2, 30))
def test_names_of_a_scatter_plot_cover_neither_points_nor_each_other(values, long):
    """A name on another's point is a wrong name; whichever finds no room is told by its point, and counted."""
    drawn = figures.scatter("t", "x", "y", [(x / 100, y / 100, str(k).rjust(long, "n")) for k, (x, y) in enumerate(values)])
    root = ElementTree.fromstring(drawn)  # noqa: S314  (our own drawing)
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in root.iter("circle")]
    names = [(float(one.get("x")), float(one.get("y")) + 3) for one in root.iter("text") if one.get("class") == "name"]
    boxes = [(x, y - LINE, x + LETTER * long, y) for x, y in names]
    assert len(dots) == len(values) and all(dot.find("title") is not None for dot in root.iter("circle"))
    for left, top, right, bottom in boxes:
        assert not any(left < x < right and top < y < bottom for x, y in dots)
    for (left, top, right, bottom), other in itertools.combinations(boxes, 2):
        apart = right < other[0] + 0.2 or other[2] < left + 0.2 or bottom < other[1] + 0.2 or other[3] < top + 0.2
        assert apart, "two names overlap"
    assert len(boxes) + sum(map(int, re.findall(r"(\d+) more have no room", drawn))) == len(values)


def test_lines_are_drawn_at_their_values_whatever_came_before():
    """The second line of a figure with deviations once lay on its axis."""
    lines = [figures.Line(name, [(0, 0.9), (1, y)], [0.1, 0.1]) for name, y in (("a", 0.3), ("b", 0.75))]

    def ends(*several):
        return [
            float(text.split(",")[-1])
            for text in re.findall(r'<polyline[^>]* points="([^"]+)"', figures.lines("t", "x", several))
        ]

    assert ends(*lines) == [*ends(lines[0]), *ends(lines[1])] and ends(*lines)[0] > ends(*lines)[1] + 50


def test_a_board_of_defenses_has_an_attackers_view_too_and_colours_end_where_clean_training_does(tmp_path):
    """Whichever way round a grid was written, both sides can be seen; and 40 % is much where clean training has 42 %."""
    records = Records(tmp_path)
    for cell in cells().values():
        records.write(record(cell, 0.42 if cell.attack[0].name == "none" else 0.1))
    turned = made(records, with_fields(TABLE, rows=["defense"], columns=["attack"]))
    files = Site([turned]).files()
    assert "Rows: defense. Columns: attack." in files["quick.html"] and "Rows: attack." in files["quick.attacks.html"]
    assert 'href="quick.attacks.html"' in files["quick.html"] and 'href="quick.html"' in files["quick.attacks.html"]
    assert turned.top == 0.5 and {tint(value, turned) for value in turned.scores.values()} == {8, 2}
    assert "50 %, about what clean training reaches" in files["quick.html"] and "quick.pareto.svg" in files
    assert made(Records(tmp_path / "none")).top == 1.0


def test_a_name_on_a_board_leads_to_its_page_wherever_its_first_number_is(tmp_path):
    """A row without a number in the first column is no less an attack; and the front page is a grid's, or the fullest."""
    records = Records(tmp_path)
    records.write(record(cells(with_fields(TABLE, ratio=[0.5]))["ops", "none", 0]))
    some = with_fields(TABLE, ratio=[0.3], defense=["grayscale", "bdr(bits=2)"], attack=["random-noise"])
    for cell in [*cells(some).values(), cells(with_fields(TABLE, ratio=[0.3]))["ops", "none", 0]]:
        records.write(record(cell))
    found = other_tables(records, set())
    page = Site(found).files()["index.html"]
    assert "ratio 0.3</h2>" in page and '<a href="attack.random-noise.html">' in page and '<a href="defense.bdr.html">' in page


def test_cells_of_one_entry_with_other_parameters_can_be_told_apart(tmp_path):
    """Four rows `45.0, none` on the page of a defense say nothing."""
    records, table = Records(tmp_path), with_fields(TABLE, defense=["jpeg", "jpeg(quality=50)"], attack=["none"], seed=[0])
    for cell in results.Grid.of(table).cells(registry.resolve, registry.lacking):
        records.write(record(cell, 0.5))
    page = Site([made(records, table)]).files()["defense.jpeg.html"]
    assert '<th scope="col">defense</th>' in page and "(quality=50)" in page.partition("All measured results")[2]


def test_what_methods_took_is_told_in_plain_trainings(full):
    """Crafting for an attack, all stages of a victim for a defense; seconds of two machines would say nothing."""
    costs = {(method.axis, method.name): cost for method, cost in in_plain_trainings(made(full)).items()}
    assert costs["attack", "ops"] == 0.5 and costs["defense", "grayscale"] == 1.0
    assert ("attack", "none") not in costs


def test_bibtex_has_every_paper_once_and_keeps_its_own_entry(full):
    """What is exported goes into somebody's manuscript."""
    one = registry.Paper("50% of {Images}", "ICML 2023", "https://x.org/{a}", authors="Ann Ärger, Bo Li", year=2023)
    own = registry.Paper("T", "V", "u", bibtex="@article{me, title={T}}")
    text = bibliography([one, own, one])
    assert text.count("@") == 2 and "@inproceedings{arger2023images," in text and "@article{me," in text
    assert "booktitle = {International Conference on Machine Learning}" in text
    assert r"50\% of \{Images\}" in text and "Ann Ärger and Bo Li" in text
    kinds = {"TMLR 2024": "@article{", "ACM MM 2023": "@inproceedings{", "arXiv 2017": "@misc{", "my attic": "@misc{"}
    assert {venue: bibtex(registry.Paper("T", venue, "u"))[: len(kind)] for venue, kind in kinds.items()} == kinds


def test_the_leaderboard_can_be_cited_from_every_page(full):
    """Dated by its latest record of ours; a date of a stranger that is none does not get there."""
    files = Site([made(full)]).files()
    entry = "@misc{unlearnablebench2026,"
    assert files["quick.bib"].startswith(entry) and "latest record of 2026-01-02" in files["quick.bib"]
    shown = [name for name, text in files.items() if name.endswith(".html")]
    assert len(shown) > 50 and all(entry in files[name] for name in shown)
    full.write(record(cells()["ops", "none", 0], finished="9999 or so"), replace=True)
    assert "latest record of 2026-01-02" in Site([made(full)]).files()["quick.bib"]


def test_pictures_come_from_the_store_and_show_what_was_added(tmp_path):
    """The gallery reads the arrays of the store; the amplified perturbation is grey where nothing was changed."""
    data = load(registry.resolve("datasets", "digits")[0])
    for seed in (0, 1):
        Store(tmp_path).poison(recipe("ops", seed), data)
    (sample,) = gallery.samples(tmp_path)["attack.ops"]
    assert "seed 0" in sample.note and "spent ℓ0 1 pixel of 1 pixel" in sample.note
    clean, poisoned, grown, spectrum = (pixels(strip) for strip in sample.strips)
    assert clean.shape == (32, 10 * 33 - 1, 3) == spectrum.shape
    assert (clean != poisoned).any(-1).sum() == 10 and (
        (grown != 128).any(-1) & (grown != 0).any(-1)
    ).sum() == 10  # one pixel each


def test_a_defense_shows_what_it_leaves_of_a_poison(tmp_path):
    """Before and after, of the same images; floats outside the box are shown at its edge."""
    clean = tiny(40, classes=4, shape=(3, 8, 8))
    purifier = registry.resolve("defenses", "bdr(bits=1)")
    kept = Store(tmp_path).purified(PurifiedRecipe(recipe("random-noise"), 1.0, "all", purifier, 0), as_data(clean))
    (sample,) = gallery.samples(tmp_path)["defense.bdr"]
    before, after = (pixels(strip) for strip in sample.strips)
    assert before.shape == after.shape == (8, 35, 3) and sample.note == "digits, ratio 1, seed 0"
    assert set(np.unique(after)) == {0, 128} and len(np.unique(before)) > 100
    np.save(kept.path / "images.npy", np.tile(np.linspace(-0.5, 1.5, 64, dtype=np.float32).reshape(8, 8), (40, 3, 1, 1)))
    after = pixels(gallery.samples(tmp_path)["defense.bdr"][0].strips[1])
    assert after.min() == 0 and after.max() == 255


def test_a_defense_shows_what_it_took_for_the_perturbation_and_what_is_left(tmp_path):
    """Figures 1 and 4 of D-VAE: p, p_hat and the residual, each stretched over all levels, of a set in the store."""
    data = load(registry.resolve("datasets", "digits")[0])
    purifier = registry.resolve("defenses", "bdr(bits=2)")
    kept = Store(tmp_path).purified(PurifiedRecipe(recipe("random-noise", 0), 1.0, "all", purifier, 0), data)
    guess = np.random.default_rng(0).normal(0, 0.1, data.train.images.shape).astype(np.float16)  # as d-vae keeps it
    np.save(kept.path / "p_hat.npy", guess)
    (sample,) = gallery.samples(tmp_path)["defense.bdr"]
    titles = [strip.title.partition(",")[0].partition(":")[0] for strip in sample.strips]
    found = ["poisoned", "after the defense", "perturbation", "perturbation as the defense found it", "what is left"]
    assert titles == found
    first = guess[np.flatnonzero(data.train.labels.numpy() == 0)[0]].astype(np.float32)
    shown = pixels(sample.strips[3])[:, :32]
    share = (first - first.min()) / (first.max() - first.min())
    assert np.abs(shown - 255 * share.transpose(1, 2, 0)).max() <= 1 and shown.min() == 0 and shown.max() == 255


def test_perturbations_of_two_classes_stand_side_by_side(tmp_path):
    """Figure 6 of TUE: from -epsilon .. epsilon to black .. white, four images of two classes; zero is grey."""
    data = load(registry.resolve("datasets", "digits")[0])
    Store(tmp_path).poison(recipe("random-noise", 0), data)
    found = gallery.samples(tmp_path)
    shown = pixels(found["attack.random-noise"][0].noise)
    assert shown.shape == (32, 8 * 33 - 1, 3)
    kept = next(tmp_path.glob("*/images.npy"))
    row = np.flatnonzero(data.train.labels.numpy() == 7)[3]
    delta = np.load(kept)[row, 0].astype(float) - data.train.images[row, 0].numpy()
    assert np.abs(shown[:, 7 * 33 :, 0] - 127.5 * (1 + delta / 8)).max() <= 1  # 8 levels of epsilon
    files = Site([], samples=found).files()
    assert "Several images of two classes" in files["perturbations.html"]
    assert 'href="perturbations.html"' in files["attack.random-noise.html"]
    assert "perturbations.html" not in Site([]).files()


def test_a_thumbnail_of_a_perturbation_is_small_and_of_its_dataset_alone(tmp_path):
    """The start page has one per attack: below two kilobytes even of noise, and nothing where no set is stored."""
    data = load(registry.resolve("datasets", "digits")[0])
    Store(tmp_path).poison(recipe("random-noise", 0), data)
    found = gallery.samples(tmp_path)
    ((method, picture),) = gallery.thumbnails(found, "digits").items()
    assert method.name == "random-noise" and len(picture.data) < 2048 and (picture.width, picture.height) == (32, 32)
    assert len(np.unique(pixels(picture))) == 8  # noise of two values in each of three channels
    assert gallery.thumbnails(found, "cifar10") == {}
    gone = {
        name: [dataclasses.replace(sample, text="gone(epsilon=0.1)") for sample in several] for name, several in found.items()
    }
    assert gallery.thumbnails(gone, "digits") == {}, "of an attack that is not installed any more"


def test_the_size_of_a_change_is_that_of_the_stored_images(tmp_path):
    """PSNR and the largest change by hand; SSIM by its formula, window by window; of its dataset alone."""
    data = load(registry.resolve("datasets", "digits")[0])
    kept = Store(tmp_path).poison(recipe("random-noise", 0), data)
    ((method, size),) = gallery.change_sizes(gallery.samples(tmp_path), "digits").items()
    after, before = np.load(kept.path / "images.npy").astype(float), data.train.images.numpy().astype(float)
    assert method.name == "random-noise" and size.images == len(after[:: -(-after.size // VALUES)]) < len(after)
    part, clean = after[:: -(-after.size // VALUES)], before[:: -(-after.size // VALUES)]
    assert size.psnr == pytest.approx(10 * np.log10(255**2 / ((part - clean) ** 2).mean())) and size.largest == 8
    assert 0 < size.ssim < 1
    assert gallery.change_sizes(gallery.samples(tmp_path), "cifar10") == {}


def test_structural_similarity_is_that_of_its_formula():
    """One image, window by window; the same image is alike, an image below the window has none."""
    a, b = np.random.default_rng(0).integers(0, 256, (2, 1, 1, 13, 12)).astype(float)
    at = np.arange(11) - 5
    kernel = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    kernel /= kernel.sum()

    def alike(x, y):
        m, n = (kernel * x).sum(), (kernel * y).sum()
        v, w, c = ((kernel * (p - q) * (r - s)).sum() for p, q, r, s in ((x, m, x, m), (y, n, y, n), (x, m, y, n)))
        return (2 * m * n + 2.55**2) * (2 * c + 7.65**2) / ((m**2 + n**2 + 2.55**2) * (v + w + 7.65**2))

    windows = [alike(a[0, 0, i : i + 11, j : j + 11], b[0, 0, i : i + 11, j : j + 11]) for i in range(3) for j in range(2)]
    assert similarity(a, b) == pytest.approx(np.mean(windows)) and similarity(a, a) == pytest.approx(1)
    small = np.zeros((2, 3, 8, 8), np.uint8)
    assert ChangeSize.of(small, small) == ChangeSize(psnr=None, ssim=None, largest=0, images=2)
    assert ChangeSize.of(small + np.uint8(255), small) == ChangeSize(psnr=0.0, ssim=None, largest=255, images=2)


def test_the_start_page_shows_the_size_of_a_change_where_a_poison_is_stored(tmp_path):
    """On demand; a blank says why, and without any stored poison there is no column."""
    tables = printed_tables(read_grid("d-vae/table-2"), Records(tmp_path), registry.resolve, registry.lacking)
    picture, size = Strip("data:,", "", "What was added", 1, 1), ChangeSize(34.56, 0.9876, 8, 1024)
    samples = {"attack.em": [gallery.Sample("em", "", [], thumbnail=picture, dataset="cifar10", change=size)]}
    shown = Site(tables, samples=samples).files()["index.html"]
    plain = Site(tables).files()["index.html"]
    assert 'see-size"' in shown and 'see-size"' not in plain and "no poison of this dataset is stored here" not in plain
    assert 'data-v="34.56" title="of 1024 images of the stored poison">34.6</td>' in shown
    assert ">0.988</td>" in shown and ">8</td>" in shown
    assert shown.count("no poison of this dataset is stored here with its clean images") > 3


def test_pictures_without_clean_images_or_of_damaged_sets_do_no_harm(tmp_path):
    """A store comes from another machine, or half of it was lost."""
    kept = poison(tmp_path, "random-noise", tiny(40, classes=4, shape=(1, 8, 8)))
    (sample,) = gallery.samples(tmp_path)["attack.random-noise"]
    assert [strip.title for strip in sample.strips] == ["poisoned"] and pixels(sample.strips[0]).shape == (8, 35, 3)
    (kept.path / "images.npy").write_bytes(b"no array")
    assert gallery.samples(tmp_path) == {} == gallery.samples(tmp_path / "nothing")
    for content in ("{", "[]", "[" * 9000, '{"recipe": 3}'):
        (kept.path / "manifest.json").write_text(content)
        assert gallery.samples(tmp_path) == {}


def pixels(strip):
    """The picture of a strip as an array (H, W, 3)."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(strip.data.partition(",")[2]))))


def test_csv_comes_back_with_numbers(full):
    """People load the table into pandas: numeric columns are numeric, gaps included."""
    full.path(cells()["ops", "none", 1].id).unlink()
    full.path(cells()["ops", "none", 0].id).unlink()
    b = made(full)
    table = pd.read_csv(io.StringIO(formats.csv(b)), keep_default_na=False, na_values={"test_acc": [""], "drop": [""]})
    whole = table.set_index(["attack", "defense"])
    assert table["test_acc"].dtype == "float64" and table["drop"].dtype == "float64" and len(table) == 9
    assert whole.loc[("ops", "grayscale"), "test_acc"] == 0.22  # not 0.22000000000000003, the mean of its seeds
    assert whole.loc[("ops", "none"), "state"] == "missing" and pd.isna(whole.loc[("ops", "none"), "test_acc"])
    assert table["n"].tolist() == [2, 2, 2, 0, 2, 2, 2, 2, 2] and set(table["unit"]) == {"fraction"}


def test_json_has_its_keys_and_the_exact_numbers(full):
    """Scripts rely on these keys."""
    content = json.loads(formats.json_(made(full)))
    keys = {"title", "note", "slug", "command", "fixed", "row_axes", "column_axes", "rows", "columns", "coverage"}
    assert keys | {"values", "standings"} <= set(content)
    value = next(v for v in content["values"] if (v["row"], v["column"]) == ("ops", "grayscale"))
    assert {"state", "reason", "mean", "std", "n", "best", "drop", "accuracies", "seconds", "records"} <= set(value)
    assert value["accuracies"] == pytest.approx([0.21, 0.23]) and value["n"] == 2 and content["unit"] == "fraction"


def test_the_terminal_shows_the_table(full):
    """The first thing that somebody sees after a run; brackets in it are not markup."""
    screen = io.StringIO()
    rich.print(formats.terminal(made(full, with_fields(TABLE, title="[red]x"))), file=screen)
    assert "[red]x" in screen.getvalue() and "22.0" in screen.getvalue() and "±1.4" in screen.getvalue()


def test_a_site_is_the_same_each_time_and_boards_of_one_name_keep_apart(full, tmp_path):
    """Written whole by rename; equal records give equal bytes; boards of one name do not overwrite each other, nor pages."""
    b = made(full)
    three = distinct([b, b, dataclasses.replace(b, slug="attacks")], NAVIGATION)
    assert [one.slug for one in three] == ["quick", "quick-2", "attacks-2"]
    files = Site(three).files()
    assert {"index.html", "quick.html", "quick-2.html", "attacks-2.defenses.html", "quick-2.csv", "quick.json"} <= set(files)
    paths = formats.write_tables([], tmp_path / "site", (), more=files)
    assert paths[0].name == "index.html" and {path.relative_to(tmp_path / "site").as_posix() for path in paths} == set(files)
    assert all(path.is_file() for path in paths)
    assert Site(three).files() == files
    written = formats.write_tables([b], tmp_path / "tables", ["latex", "json"])
    assert [path.name for path in written] == ["quick.tex", "quick.json"]
    assert "bench run --grid quick" in Site([]).files()["index.html"]


def test_the_first_page_shows_what_was_measured(tmp_path):
    """Somebody whose first run was not the quick grid must not meet an empty table."""
    records, table = Records(tmp_path), with_fields(TABLE, ratio=[0.5])
    for cell in cells(table).values():
        records.write(record(cell, 0.7))
    b = made(records)
    page = Site([b, *other_tables(records, b.shown)]).files()["index.html"]
    assert "ratio 0.5" in page and "not run yet" not in page
    assert 'href="quick.html"' not in page  # a board without a number is offered on the page of what is missing alone


@pytest.mark.parametrize("text", ["../../etc/passwd", "Ä b", "a" * 200, ".hidden", "", "a/b", "CON|<x>"])
def test_names_of_files_are_tame_and_differ_where_their_texts_do(text):
    """A record's texts become file names and anchors."""
    assert re.fullmatch(r"[a-z0-9_-][a-z0-9._-]{0,59}", slugged(text)) and slugged(text) != slugged(text + "!")


def test_reporting_needs_no_torch():
    """`bench report` answers at once, also where torch is broken; pandas and jinja2 wait until they are needed."""
    heavy = "[name for name in ('torch', 'pandas', 'jinja2') if name in sys.modules]"
    code = (
        f"import sys, unlearnable_bench.leaderboard.tables.measured, unlearnable_bench.leaderboard.formats.text; print({heavy})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_character_that_no_drawing_may_hold_stops_no_report(full):
    """Titles of tables are anybody's; a figure is read again to be written as PDF."""
    files = Site([dataclasses.replace(made(full), title="a\x01b")]).files()
    assert "a\ufffdb" in files["quick.heat.svg"] and files["quick.heat.pdf"].startswith(b"%PDF")
    assert not any("\x01" in text for name, text in files.items() if name.endswith((".html", ".svg")))


def test_a_row_of_two_poisons_says_so(full):
    """Two machines that made one recipe into two sets have measured two things; a number over both is of neither."""
    assert not remarks(made(full))
    for seed in (0, 1):
        cell = cells()["ops", "bdr", seed]
        note = PoisonNote(checksum="beef" * 15, norm="linf", spent=8 / 255, allowed=8 / 255, numerics={"device": "cuda"})
        full.write(record(cell, 0.3, poison=note), replace=True)
    (first, second) = remarks(made(full))
    assert "ops: the records show 2 poisons of seed 0, beefbeefbeef (cuda" in first and "seed 1" in second
    assert "2 poisons of seed 0" in formats.markdown(made(full)) and "2 poisons of seed 0" in html(made(full))


def test_poisons_of_two_seeds_are_no_two_poisons_of_one(full):
    """A generator's poison follows the cell's seed; that of an attack with `seed=0` is the same for all seeds."""
    for (attack, _, seed), cell in cells().items():
        if attack == "ops":
            note = PoisonNote(checksum=f"{seed:060}", norm="l0", spent=1.0, allowed=1.0)
            full.write(record(cell, 0.2, poison=note), replace=True)
    assert not remarks(made(full))
    pinned = with_fields(TABLE, attack=["none", "ops(seed=0)"])
    for (attack, _, seed), cell in cells(pinned).items():
        if attack == "ops":
            note = PoisonNote(checksum=f"{seed:060}", norm="l0", spent=1.0, allowed=1.0)
            full.write(record(cell, 0.2, poison=note), replace=True)
    assert len(remarks(made(full, pinned))) == 1


def test_a_table_of_toy_scale_has_no_ranks_and_says_so(full):
    """A rank on handwritten digits would be quoted as a finding; worst cases and means stay."""
    table = TABLE.model_copy(update={"ranks": False})
    shown = made(full, table)
    assert {summary.rank for summary in shown.ranking.values()} == {None}
    assert shown.ranking["ops",].worst == made(full).ranking["ops",].worst
    assert "No ranks: at this scale" in html(shown) and "No ranks: at this scale" not in html(made(full))
    assert shown.transposed().ranking and {s.rank for s in shown.transposed().ranking.values()} == {None}


def test_an_attack_that_does_nothing_is_listed_and_has_no_rank(full):
    """At a cost at which a poison was cut short, no effect says nothing of the attack as published."""
    table = TABLE.model_copy(update={"least_drop": 0.4})
    shown = made(full, table)
    assert made(full).ranking["random-noise",].rank == 2
    assert shown.ranking["random-noise",].rank is None and shown.ranking["ops",].rank == 1
    assert remarks(shown) == [
        "Not measurable at this cost, and not ranked, since undefended the drop is below 40 points: random-noise (30.0)."
    ]
    assert "not measurable at this cost" in html(shown)


def test_a_board_says_precisions_and_what_dear_defenses_cost(full):
    """Numbers in bf16 and in fp32 are near, not equal; a column that takes eight trainings a cell says so before it is run."""
    full.write(record(cells()["ops", "bdr", 1], 0.3, numerics={"dtype": "bf16", "compile": False, "threads": 1}), replace=True)
    shown = made(full, with_fields(TABLE, defense=["none", "bdr", "grayscale+at(steps=10)"]))
    assert shown.precisions == {"bf16": 1, "fp32": 11}
    assert shown.settings["defense"]["grayscale+at"].cost == pytest.approx(23 / 3)
    page = html(shown)
    assert "1 in bf16, 11 in fp32" in page and page.count("<small>7.7 ") == 1
    assert shown.settings["defense"]["bdr"].cost == 1
