"""Records to a table and its pages, with real records in real files."""

import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from statistics import stdev

import jinja2
import pandas as pd
import pytest
import rich
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

import registry
import results
from leaderboard import render
from leaderboard.table import board, others, slugged
from results.record import Curve, Failure, Metrics, PoisonNote, Record, Records

EVIL = "<script>alert(1)</script> | a\\|b $x$ \\input{y} `c` [l](http://evil.example) ![i](x) **b** & \n\n# h"
TABLE = results.read_table("quick").replaced(
    attack=["none", "ops", "random-noise(kind=class)"], defense=["none", "grayscale", "bdr(bits=2)"], seed=[0, 1]
)


def cells(table=TABLE):
    """The cells of a table by (attack, defense, seed), names only."""
    found = table.cells(registry.resolve)
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
    for (attack, defense, seed), cell in cells().items():
        extra = ["none", "grayscale", "bdr"].index(defense) / 100 + seed / 50
        records.write(record(cell, ACCURACY[attack] + extra))
    return records


def made(records, table=TABLE):
    return board(table, records, "quick", registry.resolve)


def every_text(b):
    return [render.html([b], files=True), render.markdown(b), render.csv(b), render.json_(b), render.latex(b)]


def test_mean_spread_and_drop_are_those_of_the_seeds(full):
    """The numbers that people cite: sample deviation over seeds, and points below the clean row of the same column."""
    b = made(full)
    value = b.values["ops", "grayscale"]
    assert value.state == "done" and value.reason == ""
    assert value.accuracies == pytest.approx((0.21, 0.23)) and value.n == 2
    assert value.mean == pytest.approx(0.22) and value.std == pytest.approx(stdev([0.21, 0.23]))
    assert value.best == pytest.approx(0.32) and value.seconds == 6.0
    assert value.drop == pytest.approx(0.7) and b.values["none", "grayscale"].drop is None
    assert value.records == tuple(cells()["ops", "grayscale", seed].id for seed in (0, 1))
    assert b.rows == ("none", "ops", "random-noise") and b.columns[:2] == ("none", "grayscale")
    assert b.fixed == {"protocol": "quick", "dataset": "digits", "ratio": "1", "part": "all", "architecture": "small-cnn"}
    assert "22.0 ± 1.4" in render.html([b]) and "−70.0 from clean" in render.html([b])  # noqa: RUF001


def test_one_seed_has_no_spread_and_no_rank(tmp_path):
    """A single run must not look as if its spread were known to be nothing."""
    records, table = Records(tmp_path), TABLE.replaced(seed=[0])
    for cell in cells(table).values():
        records.write(record(cell, 0.5))
    b = made(records, table)
    assert all(value.std is None and value.n == 1 for value in b.values.values())
    assert all(standing.rank is None for standing in b.standings.values())
    assert "±" not in re.sub(r"±0.0", "", render.markdown(b)) and "no spread is known" in render.html([b])


def test_attacks_are_ranked_once_all_are_done_and_share_ranks_where_spreads_overlap(full):
    """A rank among half of the rows, or one that noise decides, would be quoted as a finding."""
    standings = made(full).standings
    assert (standings["ops"].rank, standings["random-noise"].rank, standings["none"].rank) == (1, 2, None)
    assert standings["ops"].best_defense == "bdr" and standings["ops"].mean == pytest.approx(0.22)
    for (attack, _, seed), cell in cells().items():
        if attack == "random-noise":
            full.write(record(cell, 0.22 + 0.04 * seed), replace=True)
    assert {s.rank for name, s in made(full).standings.items() if name != "none"} == {1}
    full.path(cells()["ops", "bdr", 1].id).unlink()
    assert all(standing.rank is None for standing in made(full).standings.values())


def test_a_column_that_does_not_apply_to_one_attack_counts_for_none(full):
    """Else an attack ranks well because the defense that beats it could not be run."""
    for seed in (0, 1):
        cell = cells()["ops", "bdr", seed]
        full.write(record(cell, state="not-applicable", metrics=None, reason="too few levels"), replace=True)
    standings = made(full).standings
    assert {s.over for s in standings.values()} == {2}
    assert standings["random-noise"].mean == pytest.approx(0.615) and standings["ops"].rank == 1


def test_what_is_missing_says_how_to_run_it(tmp_path):
    """Nobody should have to guess whether a gap is a failure or not run yet."""
    b = made(Records(tmp_path / "none"))
    value = b.values["ops", "none"]
    assert (value.state, value.mean, value.drop, value.std) == ("missing", None, None, None)
    assert value.reason == "not run yet: `bench run --grid quick`"
    assert b.coverage == {"cells": 18, "done": 0, "stale": 0, "failed": 0, "not-applicable": 0, "missing": 18}
    page = render.html([b])
    assert page.count("not run yet</small>") == 9 and "<code>bench run --grid quick</code>" in page
    assert "`bench run --grid quick`" in render.markdown(b)


def test_some_seeds_are_shown_as_some(full):
    """A mean over fewer seeds than its neighbours' must say so."""
    cell = cells()["ops", "none", 1]
    full.path(cell.id).unlink()
    value = made(full).values["ops", "none"]
    assert value.state == "partial" and value.mean == pytest.approx(0.2) and value.n == 1
    assert value.reason == "1 of 2 seeds; seed 1 not run yet: `bench run --grid quick`"
    assert "1 of 2 seeds</small>" in render.html([made(full)])


def test_a_failure_and_a_cell_that_does_not_apply_say_why(full):
    """Empty cells always have a visible reason."""
    for seed in (0, 1):
        broken, other = cells()["ops", "none", seed], cells()["ops", "grayscale", seed]
        full.path(broken.id).unlink()
        full.fail(Failure(id=broken.id, cell=broken, kind="out-of-memory", message="tried\n  2 GiB"))
        full.write(record(other, state="not-applicable", metrics=None, reason="needs three channels"), replace=True)
    b = made(full)
    failed, absent = b.values["ops", "none"], b.values["ops", "grayscale"]
    assert (failed.state, failed.reason, failed.mean) == ("failed", "out-of-memory: tried 2 GiB", None)
    assert (absent.state, absent.reason, absent.mean) == ("not-applicable", "needs three channels", None)
    page = render.html([b])
    assert "failed: out-of-memory</small>" in page and "not applicable: needs three channels</small>" in page
    assert b.coverage["failed"] == 2 and b.coverage["not-applicable"] == 2


def test_numbers_of_another_version_are_marked_and_never_mixed_with_others(full):
    """After a fix of an attack its old numbers must not pass for new ones, nor be averaged with them."""
    one, two = (cells()["ops", "none", seed] for seed in (0, 1))
    full.write(record(one, 0.4, versions={"attack:ops": "0"}), replace=True)
    value = made(full).values["ops", "none"]
    assert value.state == "partial" and value.accuracies == pytest.approx((0.22,))
    assert "seed 0 stale: attack:ops was version 0, now it is 1" in value.reason
    full.write(record(two, 0.6, versions={"attack:ops": "0 of someones-attacks 1.2"}), replace=True)
    b = made(full)
    value = b.values["ops", "none"]
    assert value.state == "stale" and value.mean == pytest.approx(0.5) and value.drop is None
    assert "50.0 ± 14.1" in render.html([b]) and "stale</small>" in render.html([b])
    assert b.standings["ops"].rank is None


def test_versions_of_unknown_entries_are_not_stale(full):
    """A record of somebody's plug-in stays good on a machine that lacks the plug-in; so do folders of images."""
    cell = cells()["ops", "none", 0]
    versions = {"attack:nobody-has-this": "7", "dataset:folder-cats-0123abcd": "1", "python": "3.11", "kind:x": "2"}
    full.write(record(cell, 0.2, versions=versions), replace=True)
    assert made(full).values["ops", "none"].state == "done"


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "[" * 100_000, '"\\ud800"', '{"id": 3}', '{"format": 1, "id": "0", "cell": {}}']
)
def test_a_damaged_record_is_a_failed_cell_and_the_rest_is_shown(full, content):
    """One broken file must not take the page with it, and pages do not tell where the workspace lies."""
    for seed in (0, 1):
        full.path(cells()["ops", "none", seed].id).write_text(content)
    b = made(full)
    value = b.values["ops", "none"]
    assert value.state == "failed" and value.mean is None and "remove the file" in value.reason
    assert str(full.folder) not in "".join(every_text(b))
    assert b.coverage["done"] == 16
    assert others(full, b.shown) == []


def test_records_outside_the_grids_get_boards_of_their_own(full):
    """Ad-hoc runs show up, clean first, and a combination that nobody ran says so."""
    b = made(full)
    assert others(full, b.shown) == []
    table = TABLE.replaced(attack=["ops", "none"], defense=["cutout", "none"], ratio=[0.5])
    for (attack, defense, _), cell in cells(table).items():
        if (attack, defense) != ("ops", "none"):
            full.write(record(cell, 0.7))
    (full.folder / "stray.json").write_text("{}")
    (extra,) = others(full, b.shown)
    assert extra.rows == ("none", "ops") and extra.columns == ("none", "cutout") and extra.fixed["ratio"] == "0.5"
    assert extra.values["ops", "none"].reason == "no record" and extra.values["ops", "cutout"].n == 2
    assert extra.values["ops", "cutout"].drop == pytest.approx(0)
    page = render.html([b, extra])
    assert "no record</small>" in page and "ratio 0.5" in page


def test_two_things_under_one_text_are_never_averaged(tmp_path):
    """Texts in records are other people's, and defaults change: only what hashes alike shares a place."""
    records, cell = Records(tmp_path), cells()["ops", "none", 0]
    other = cell.model_copy(update={"attack": (cell.attack[0].model_copy(update={"fields": {"x": 1}}),)})
    posing = cell.model_copy(update={"attack": (results.Part(name="ops", fields={"y": 2}, text="none"),)})
    for one, accuracy in ((cell, 0.1), (other, 0.2), (posing, 0.3)):
        records.write(record(one, accuracy))
    (extra,) = others(records, set())
    assert {round(value.mean, 1) for value in extra.values.values()} == {0.1, 0.2, 0.3} and len(extra.rows) == 3
    assert not any(value.clean for value in extra.values.values())


def test_an_axis_without_a_place_in_the_layout_becomes_rows(full):
    """Nothing but seeds is ever averaged, and protocols are never mixed in a ranking."""
    table = TABLE.replaced(protocol=["quick", "quick@0.5"])
    b = made(full, table)
    assert b.row_axes == ("attack", "protocol") and "ops / quick@0.5" in b.rows and len(b.rows) == 6
    assert b.values["ops / quick", "none"].n == 2 and b.values["ops / quick@0.5", "none"].state == "missing"
    assert b.standings["ops / quick"].rank == 1 and b.standings["ops / quick@0.5"].rank is None


class Tags(HTMLParser):
    """Collects tags, ids and links, and says whether every tag is closed where it should be."""

    VOID = frozenset({"meta", "link", "br", "wbr", "img", "hr", "input"})

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.open, self.seen, self.links, self.ids, self.inline = [], set(), [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_startendtag(self, tag, attributes):
        self.note(tag, attributes)

    def handle_starttag(self, tag, attributes):
        self.note(tag, attributes)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def note(self, tag, attributes):
        self.seen.add(tag)
        self.links += [(tag, value) for key, value in attributes if key in ("href", "src", "action", "srcset", "data")]
        self.ids += [value for key, value in attributes if key == "id"]
        self.inline += [key for key, _ in attributes if key.startswith("on") or key == "style"]


def evil(records):
    """Fill every free text of records with what would break a page; return the boards."""
    table = TABLE.replaced(note=EVIL, title=EVIL)
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
    return [b, *others(records, b.shown)]


def test_strings_of_records_are_inert_in_html(tmp_path):
    """Records come from strangers: nothing of them may run, load or leave its place."""
    page = render.html(evil(Records(tmp_path)))
    tags = Tags(page)
    assert "script" not in tags.seen and "img" not in tags.seen and "b" not in tags.seen and tags.inline == []
    assert "&lt;script&gt;alert(1)" in page and not any("evil" in link for _, link in tags.links)


def test_strings_of_records_are_inert_in_markdown(tmp_path):
    """The file is read on code hosts: no tags, no links, and every row keeps its columns."""
    for b in evil(Records(tmp_path)):
        tokens = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").parse(render.markdown(b))
        flat = [inner for token in tokens for inner in (token, *(token.children or ()))]
        kinds = {token.type for token in flat}
        assert not kinds & {"html_block", "html_inline", "link_open", "image"}
        assert sum(token.type == "heading_open" for token in tokens) == 1
        cells_ = sum(token.type in ("td_open", "th_open") for token in tokens)
        assert cells_ == (len(b.rows) + 1) * (len(b.columns) + 1)
        assert "http://" not in re.sub(r"`[^`]*`", "", render.markdown(b))  # code hosts link bare addresses


MARKED = st.text(st.sampled_from("<>|&`*_[]()!\\~#$:/.- \nab"), max_size=20)


@given(MARKED)
def test_markdown_prints_any_text_as_it_is_also_inside_a_table(text):
    """Escaping too little breaks the table, too much shows backslashes."""
    page = f"| x | y |\n| --- | --- |\n| .{render.escape_markdown(text)}. | y |\n"
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(page)
    inside = [token for token in tokens if token.type == "inline"]
    assert len(inside) == 4 and {child.type for child in inside[2].children} == {"text"}
    assert "".join(child.content for child in inside[2].children) == "." + re.sub(r"\s+", " ", text) + "."


@given(MARKED)
@example("```<b>`")  # three in a row open nothing, so what follows would be bare
def test_words_between_backticks_become_code_and_nothing_else(text):
    """Reasons carry commands; a stray backtick must not turn the rest of the page into code."""
    for language in ("html", "md"):
        printed = render.environment(language).from_string("{{ text | code }}").render(text=text)
        if language == "html":
            assert Tags(printed).seen <= {"code"}
        else:
            tokens = MarkdownIt("commonmark").parseInline(f".{printed} ` end")[0].children
            assert {token.type for token in tokens} <= {"text", "code_inline", "softbreak"}
            assert tokens[-1].content.endswith("` end")


def test_strings_of_records_are_inert_in_latex(tmp_path):
    """A table that is pasted into a paper must compile, and run no command of a record's author."""
    for b in evil(Records(tmp_path)):
        text = render.latex(b)
        commands = set(re.findall(r"\\([a-zA-Z]+)", text))
        ours = {"begin", "end", "centering", "caption", "label", "toprule", "midrule", "bottomrule", "tiny", "textbf"}
        ours |= {"usepackage", "smallskip", "footnotesize", "texttt", "pm", "times", "ldots"}
        assert commands <= ours | {"textbackslash", "textless", "textgreater", "textbar", "textasciigrave"}
        bare = re.sub(r"\\[\\{}$&#_%]", "", text)  # without what is escaped
        assert bare.count("{") == bare.count("}") and bare.count("$") % 2 == 0 and "#" not in bare
        rows = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert all(len(re.findall(r"(?<!\\)&", row)) == len(b.columns) for row in rows) and len(rows) == len(b.rows) + 1


def test_a_spreadsheet_runs_nothing_of_a_record(tmp_path):
    """Cells that begin like a formula are text."""
    texts = [render.csv(b) for b in evil(Records(tmp_path))]
    assert any("'=cmd()" in text for text in texts) and not any(re.search(r"(^|,)\"?[=@]", text, re.M) for text in texts)


def test_an_undefined_name_in_a_template_is_an_error(full):
    """A typing error in a template must not publish an empty place."""
    for language, source in (("html", "{{ nobody }}"), ("md", "{{ nobody }}"), ("tex", "<< nobody >>")):
        with pytest.raises(jinja2.UndefinedError):
            render.environment(language).from_string(source).render()


def test_the_page_is_whole_html_and_loads_nothing(full):
    """It works from a disk, without network and scripts; only papers are linked elsewhere."""
    page = render.html([made(full), *others(full, set())], files=True)
    tags = Tags(page)
    assert page.startswith("<!doctype html>") and '<html lang="en">' in page and 'name="viewport"' in page
    assert "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'" in page
    assert {"main", "header", "footer", "nav", "caption", "details", "svg"} <= tags.seen and "script" not in tags.seen
    assert len(tags.ids) == len(set(tags.ids))
    papers = {row.paper.url for catalog in registry.CATALOGS.values() for row in catalog.rows if row.paper}
    for tag, link in tags.links:
        if link.startswith("#"):
            assert link[1:] in tags.ids
        else:
            local = link == "data:," or re.fullmatch(r"[a-z0-9._-]+\.(csv|md)", link)
            assert local or (tag == "a" and link in papers), link
    assert "url(" not in page and "@import" not in page


def test_every_number_leads_to_all_that_made_it(full):
    """Readers must be able to check and repeat any number from the page alone."""
    b = made(full)
    page = render.html([b])
    for cell_id in b.shown:
        assert f'href="#quick-{cell_id}"' in page or f'id="quick-{cell_id}"' in page
        assert f"<code>bench run --cell {cell_id}</code>" in page
    for fact in ("cpu: a processor", "dtype fp32", "abc123", "def456", "c0ffee" * 10, "2.11", "epoch 2 of 3", "1.0, –, 2.0"):  # noqa: RUF001
        assert fact in page
    assert len(page) < 100_000


def test_csv_comes_back_with_numbers(full):
    """People load the table into pandas: numeric columns are numeric, gaps included."""
    full.path(cells()["ops", "none", 1].id).unlink()
    full.path(cells()["ops", "none", 0].id).unlink()
    b = made(full)
    table = pd.read_csv(io.StringIO(render.csv(b)), keep_default_na=False, na_values={"test_acc": [""], "drop": [""]})
    whole = table.set_index(["attack", "defense"])
    assert table["test_acc"].dtype == "float64" and table["drop"].dtype == "float64" and len(table) == 9
    assert whole.loc[("ops", "grayscale"), "test_acc"] == b.values["ops", "grayscale"].mean
    assert whole.loc[("ops", "none"), "state"] == "missing" and pd.isna(whole.loc[("ops", "none"), "test_acc"])
    assert table["n"].tolist() == [2, 2, 2, 0, 2, 2, 2, 2, 2]


def test_json_has_its_keys_and_the_exact_numbers(full):
    """Scripts rely on these keys."""
    content = json.loads(render.json_(made(full)))
    keys = {"title", "note", "slug", "command", "fixed", "row_axes", "column_axes", "rows", "columns", "coverage"}
    assert keys | {"values", "standings"} <= set(content)
    value = next(v for v in content["values"] if (v["row"], v["column"]) == ("ops", "grayscale"))
    assert {"state", "reason", "mean", "std", "n", "best", "drop", "accuracies", "seconds", "records"} <= set(value)
    assert value["accuracies"] == pytest.approx([0.21, 0.23]) and value["n"] == 2


def test_the_terminal_shows_the_table(full):
    """The first thing that somebody sees after a run; brackets in it are not markup."""
    screen = io.StringIO()
    rich.print(render.terminal(made(full, TABLE.replaced(title="[red]x"))), file=screen)
    assert "[red]x" in screen.getvalue() and "22.0" in screen.getvalue() and "±1.4" in screen.getvalue()


def test_a_site_is_a_page_and_its_tables_and_the_same_each_time(full, tmp_path):
    """Written whole by rename; equal records give equal bytes; boards of one name do not overwrite each other."""
    b = made(full)
    site = tmp_path / "leaderboard" / "site"
    page = render.write_site([b, b], site)
    names = {path.name for path in site.iterdir()}
    assert names == {"index.html", "quick.md", "quick.csv", "quick-2.md", "quick-2.csv"} and page == site / "index.html"
    assert [path.name for path in render.write([b], tmp_path / "tables", ["latex", "json"])] == ["quick.tex", "quick.json"]
    assert set(render.FORMATS) == {"html", "markdown", "csv", "latex", "json"}
    before = page.read_bytes()
    assert render.write_site([b, b], site).read_bytes() == before
    Tags(render.html([]))


@pytest.mark.parametrize("text", ["../../etc/passwd", "Ä b", "a" * 200, ".hidden", "", "a/b", "CON|<x>"])
def test_names_of_files_are_tame_and_differ_where_their_texts_do(text):
    """A record's texts become file names and anchors."""
    assert re.fullmatch(r"[a-z0-9_-][a-z0-9._-]{0,59}", slugged(text)) and slugged(text) != slugged(text + "!")


def test_reporting_needs_no_torch():
    """`bench report` answers at once, also where torch is broken; pandas and jinja2 wait until they are needed."""
    heavy = "[name for name in ('torch', 'pandas', 'jinja2') if name in sys.modules]"
    code = f"import sys, leaderboard.table, leaderboard.render; print({heavy})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
