"""Numbers to take away: what programs of others read from a site, and what it says of itself to who shares or cites it."""

import csv
import io
import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from PIL import Image
from test_leaderboard import cells, fill, made, record
from test_worst_case import result

from unlearnable_bench.leaderboard.formats.imprint import Imprint
from unlearnable_bench.leaderboard.pages.badges import badges
from unlearnable_bench.leaderboard.pages.picture import Picture
from unlearnable_bench.leaderboard.pages.site import Site
from unlearnable_bench.leaderboard.pages.start import Start
from unlearnable_bench.leaderboard.pages.take_away import COLUMNS
from unlearnable_bench.leaderboard.tables.measured import grid_table
from unlearnable_bench.leaderboard.tables.methods import StatedBudget
from unlearnable_bench.leaderboard.tables.printed import printed_tables
from unlearnable_bench.registry import lacking, resolve
from unlearnable_bench.results import FileError, Records, read_grid

ROOT = Path(__file__).parent.parent
PAPERS = ("d-vae/table-2", "learn-from-unlearnable/table-3")
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Two tables of papers, and the table of the fast recipe with two seeds of one cell."""
    records = Records(tmp_path_factory.mktemp("records"))
    grid = read_grid("cifar10")
    (cell,) = (one for one in grid.cells(resolve, lacking) if (one.texts["attack"], one.texts["defense"]) == ("lsp", "jpeg"))
    cells = [cell.model_copy(update={"seed": seed}) for seed in (0, 1)]
    for one, accuracy in zip(cells, (0.70, 0.72), strict=True):
        records.write(record(one, accuracy))
    papers = [one for name in PAPERS for one in printed_tables(read_grid(name), records, resolve, lacking)]
    return [grid_table(grid, records, "cifar10", resolve), *papers], [one.id for one in cells]


@pytest.fixture(scope="module")
def files(tables):
    return Site(tables[0]).files()


class Head(HTMLParser):
    """What the head of a page says of it, by name."""

    def __init__(self, page):
        super().__init__()
        self.fields = {}
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "meta" and "content" in given:
            self.fields[given.get("property") or given.get("name")] = given["content"]
        if tag == "link":
            self.fields[given["rel"]] = given["href"]


def failures(schema, value, root, where="$"):
    """Where a value is not as a schema says; of JSON Schema, what ours uses."""
    if "$ref" in schema:
        yield from failures(root["$defs"][schema["$ref"].rpartition("/")[2]], value, root, where)
    if "const" in schema and value != schema["const"]:
        yield f"{where}: {value!r}"
    if "enum" in schema and value not in schema["enum"]:
        yield f"{where}: {value!r}"
    for kinds in [schema["type"]] if "type" in schema else []:
        allowed = [TYPES[kind] for kind in ([kinds] if isinstance(kinds, str) else kinds)]
        if not any(isinstance(value, kind) for kind in allowed):
            yield f"{where}: {value!r} is no {kinds}"
            return
    for many, enough in (("anyOf", 1), ("oneOf", 1)):
        if many in schema and sum(not list(failures(one, value, root)) for one in schema[many]) < enough:
            yield f"{where}: none of {many}: {str(value)[:80]}"
    if isinstance(value, dict):
        yield from (f"{where}: no {key}" for key in schema.get("required", ()) if key not in value)
        for key, inside in value.items():
            known = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
            if known is not None:
                yield from failures(known, inside, root, f"{where}.{key}")
    if isinstance(value, list):
        for number, inside in enumerate(value):
            yield from failures(schema.get("items", {}), inside, root, f"{where}[{number}]")


def test_the_json_files_are_as_their_schema_says(files):
    """Somebody's program reads them by it; every key that is there is described."""
    schema = json.loads(files["data/schema.json"])
    for name in ("results", "leaderboard"):
        content = json.loads(files[f"data/{name}.json"])
        assert list(failures(schema, content, schema)) == []
        broken = json.loads(files[f"data/{name}.json"].replace('"percent"', '"fraction"'))
        assert list(failures(schema, broken, schema))
    row = json.loads(files["data/results.json"])["results"][0]
    assert list(row) == schema["$defs"]["result"]["required"] == list(COLUMNS)


def test_results_are_what_papers_print_and_what_was_measured_here_in_percent(files, tables):
    """REM under D-VAE as its paper prints it; ours with its range and the ids of its records."""
    rows = json.loads(files["data/results.json"])["results"]
    sources = Counter(row["source"] for row in rows)
    assert sources["d-vae"] > 50 and sources["learn-from-unlearnable"] > 20 and sources["ours"] == 1
    (rem,) = (row for row in rows if (row["attack"], row["defense"], row["network"]) == ("rem", "d-vae", "resnet18"))
    assert (rem["value"], rem["source"], rem["page"], rem["budget"]) == (86.38, "d-vae", "d-vae.table-2.html", "ℓ∞ 8/255")
    assert rem["low"] == rem["value"] == rem["high"] and rem["records"] == []
    (ours,) = (row for row in rows if row["source"] == "ours")
    assert ours["value"] == 71.0 and ours["low"] < 70 and ours["high"] > 72
    assert (ours["protocol"], ours["attack"], ours["defense_label"]) == ("fast", "lsp", "JPEG 10")
    assert ours["records"] == tables[1] and ours["page"] in files


@pytest.mark.parametrize(
    ("norm", "allowed", "spent", "text"),
    [
        ("linf", 8 / 255, 7.5 / 255, "ℓ∞ 7.5/255 of 8/255"),
        ("l2", 1.4129, 1.34, "ℓ2 1.34 of 1.41"),
        ("l0", 1, 1, "ℓ0 1 pixel of 1 pixel"),
        ("none", 0, 0.3, "unbounded"),
        ("linf", 8 / 255, None, "ℓ∞ 8/255"),
    ],
)
def test_what_a_poison_spends_is_written_as_its_budget_is(norm, allowed, spent, text):
    """Pages have one way to write a budget."""
    assert StatedBudget(norm, allowed).spent(spent) == text


def test_the_csv_has_the_same_results(files):
    """One value a line, with its unit; a list of ids is joined by semicolons."""
    rows = json.loads(files["data/results.json"])["results"]
    lines = list(csv.DictReader(io.StringIO(files["data/results.csv"])))
    assert [line["value"] for line in lines] == [str(row["value"]) for row in rows]
    assert {line["unit"] for line in lines} == {"percent"}
    assert lines[-1]["records"].split(";") == rows[-1]["records"]


def test_the_leaderboard_is_the_start_page_as_data(files):
    """Ranks, worst cases and outcomes, published and ours apart."""
    (setting,) = json.loads(files["data/leaderboard.json"])["settings"]
    assert (setting["page"], setting["ours"]) == ("index.html", [{"protocol": "fast", "network": "resnet9"}])
    attacks = {(one["method"]["label"], one["method"]["budget"]["text"]): one for one in setting["attacks"]}
    rem, lsp = attacks["REM", "ℓ∞ 8/255"], attacks["LSP", "ℓ2 1.30"]
    worst = rem["published"]["worst_case"]
    assert (worst["against"], worst["value"], list(worst["sources"])) == ("AT 8/255", 87.07, ["learn-from-unlearnable"])
    (purified,) = (one for one in rem["published"]["outcomes"] if one["defense"] == "D-VAE")
    assert purified["sources"] == {"d-vae": 86.38} and rem["ours"] is None
    assert lsp["ours"]["worst_case"]["sources"] == {"ours": 71.0} and lsp["method"]["budget"]["norm"] == "l2"


def test_every_site_has_the_files_and_a_page_that_leads_to_them(tmp_path):
    """One without papers, too: then they are empty."""
    records = Records(tmp_path)
    fill(records)
    site = Site([made(records)])
    files = site.files()
    assert json.loads(files["data/results.json"])["results"] == []
    assert files["data/results.csv"].strip() == ",".join(COLUMNS)
    for name in ("results.json", "results.csv", "leaderboard.json", "schema.json"):
        assert f'href="data/{name}"' in files["data.html"]
    assert site.files() == files


def test_a_badge_says_the_worst_case_of_a_method_and_who_says_so(files):
    """One per entry; published where any paper has it, else ours; the page of data leads to each."""
    rem = files["badge/attack.rem.svg"]
    assert ">REM ℓ∞ 8/255<" in rem and "87.1 % under AT 8/255, published" in rem and "CIFAR-10 with ResNet-18" in rem
    names = [name for name in files if name.startswith("badge/")]
    assert len(names) > 10 and all(f'href="{name}"' in files["data.html"] for name in names)
    for name in names:
        root = ElementTree.fromstring(files[name])  # noqa: S314  (our own file)
        label, words = (text.text for text in root.iter("{http://www.w3.org/2000/svg}text"))
        assert root.get("aria-label").startswith(f"{label}: {words}, ")
        page = name.removeprefix("badge/").replace(".svg", ".html")
        assert page in files


def test_a_badge_of_ours_says_that_it_was_measured():
    """Where no paper has the method; another budget does not stand for the default one."""
    ours = [
        result("em", "jpeg", 80.0, "", 1.0),
        result("em", "grayscale", 60.0, "", 1.0),
        *(result("em(epsilon=16/255)", defense, 9.0, "", 1.0) for defense in ("jpeg", "grayscale", "bdr")),
    ]
    start = Start("cifar10", "resnet18", True, [result("lsp", "jpeg", 70.0)], ours, {}, {"attack": (), "defense": ()})
    words = {badge.name: badge.words for badge in badges(start)}
    assert (
        words["EM ℓ∞ 8/255"] == "80.0 % under JPEG 10, measured" and words["LSP ℓ2 1.30"] == "70.0 % under JPEG 10, published"
    )
    assert words["JPEG 10"] == "70.0 % against LSP, published"


@pytest.mark.parametrize("url", ["", "https://example.org/board/"])
def test_a_number_is_cited_by_a_sentence_an_address_and_bibtex(tmp_path, url):
    """Where its sources are; the address is whole where the site knows its own."""
    records = Records(tmp_path)
    fill(records)
    page = Site([made(records)], url=url).files()["sources.ops.html"]
    cell = cells()["ops", "grayscale", 0]
    sentence = "ops × grayscale: 22.0 ± 1.4 % test accuracy (quick, digits, small-cnn; 2 seeds)."  # noqa: RUF001
    assert f"{sentence} Unlearnable Bench, records until 2026-01-02." in page
    assert f'<a href="{url}sources.ops.html#c-{cell.id}">{url}sources.ops.html#c-{cell.id}</a>' in page
    assert f"@misc{{unlearnablebench2026-{cell.id}," in page and r"22.0 $\pm$ 1.4 \% test accuracy" in page
    assert (f"url = {{{url}sources.ops.html#c-{cell.id}}}" in page) == bool(url)


def test_a_shared_link_shows_a_title_a_sentence_and_an_icon(files):
    """The start page says its answer; the icon is a drawing inside the page, asked of nobody."""
    index, entry = (Head(files[name]).fields for name in ("index.html", "attack.rem.html"))
    assert index["og:title"] == "Unlearnable Bench" and "attacks are undone by some defense" in index["og:description"]
    assert index["description"] == index["og:description"] and index["theme-color"].startswith("#")
    assert "rem" in entry["og:title"] and entry["og:title"].endswith(" · Unlearnable Bench") and "og:url" not in entry
    kind, _, drawing = index["icon"].partition(",")
    assert kind == "data:image/svg+xml"
    assert ElementTree.fromstring(unquote(drawing)).tag.endswith("svg")  # noqa: S314  (our own)


def test_a_shared_link_shows_a_picture_where_the_site_knows_its_address(tables, files):
    """Networks that show previews want a whole address, this size, and few bytes; the page itself asks for nothing."""
    address = "https://example.org/board/"
    shared = Site(tables[0], url=address).files()
    picture = shared["picture.png"]
    with Image.open(io.BytesIO(picture)) as image:
        assert (image.format, image.size) == ("PNG", (1200, 630)) and len(image.convert("RGB").getcolors(1 << 20)) > 10
    assert len(picture) < 100_000
    head = Head(shared["attack.rem.html"]).fields
    assert head["og:image"] == f"{address}picture.png" and head["twitter:card"] == "summary_large_image"
    assert (head["og:image:width"], head["og:image:height"]) == ("1200", "630")
    assert head["og:image:alt"] == f"Unlearnable Bench. {Head(files['index.html']).fields['description']}"
    assert "picture.png" not in files and "og:image" not in files["index.html"]
    assert Site(tables[0], url=address).files()["picture.png"] == picture


@pytest.mark.parametrize("repository", ["", "https://example.org/bench"])
def test_pages_to_take_part_name_the_forms_and_link_them_where_the_repository_is_known(tables, repository):
    """Who finds a wrong number, or has numbers of their own, must find the form that asks for what is needed."""
    files = Site(tables[0], imprint=Imprint(repository=repository)).files()
    for form in ("submission", "wrong-number", "new-attack", "new-defense"):
        assert (ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").is_file()
        link = f'<a href="{repository}/issues/new?template={form}.yml">'
        assert (link in files["submit.html"]) == bool(repository)
    assert files["submit.html"].count("<ol>") == files["run.html"].count("<ol>") + 2 == 3
    assert 'href="run.html"' in files["submit.html"] and "bench serve" in files["run.html"]


def test_the_sentence_of_the_picture_stays_inside_it(tables):
    """A long answer goes on on the next line."""
    start = Site(tables[0]).home
    picture = Picture.of("A title", start)
    lines = picture._lines().splitlines()
    assert " ".join(lines) == start.answer.replace("ℓ", "L") and 2 <= len(lines) <= 4
    assert max(map(len, picture.tints)) <= 24 and len(picture.tints) <= 12 and picture.tints[0].count(None) < 24


# Errata


def errata(records, *fields):
    """Write errata beside records, as a maintainer does."""
    texts = [f"[[erratum]]\ndate = 2026-12-01\n{one}\n" for one in fields]
    (records.folder / "errata.toml").write_text("\n".join(texts))
    return Records(records.folder)


def test_an_erratum_stands_beside_its_number_on_pages_and_in_exports(tmp_path):
    """A number that is known to be wrong must not leave the site without a word; the number itself stays."""
    records = Records(tmp_path)
    fill(records)
    before = Site([made(records)]).files()
    cell = cells()["ops", "grayscale", 0]
    records = errata(records, f'record = "{cell.id}"\ntext = "The images were <scaled> twice."')
    sentence = "erratum of 2026-12-01: The images were <scaled> twice."
    after = Site([made(records)]).files()
    shown = sentence.replace("<", "&lt;").replace(">", "&gt;")
    assert f'<small class="why">{shown}</small>' in after["sources.ops.html"]
    assert f'<small class="why" title="{shown}">erratum</small>' in after["quick.html"]
    drawer = json.loads(after["quick.html"].partition('id="data">')[2].partition("</script>")[0])
    assert [run.get("errata") for run in drawer["cells"][cell.id]] == [[sentence], None]
    row = next(one for one in csv.DictReader(io.StringIO(after["quick.csv"])) if cell.id in one["records"])
    assert row["errata"] == sentence and row["test_acc"] == "0.22"
    values = [one for one in json.loads(after["quick.json"])["values"] if one["errata"]]
    assert [one["records"][0] for one in values] == [cell.id] and values[0]["errata"] == [sentence]
    assert "erratum of 2026-12-01" in after["quick.md"] and "erratum of 2026{-}12{-}01" in after["quick.tex"]
    assert not [name for name, text in before.items() if b"erratum of" in (text if isinstance(text, bytes) else text.encode())]


def test_an_erratum_on_a_published_result_is_a_mark_of_it(tmp_path):
    """Papers are corrected too: what the paper prints stays, with the correction."""
    undefended = [one for one in read_grid(PAPERS[0]).requests if one.printed and one.runs and one.fields["defense"] == "none"]
    place = next(one for one in undefended if one.fields["attack"] != "none" and not one.printed.mark)
    row, column = json.dumps(place.row, ensure_ascii=False), json.dumps(place.column, ensure_ascii=False)
    records = errata(Records(tmp_path), f'table = "{place.table}"\nrow = {row}\ncolumn = {column}\ntext = "Corrected to 12.3."')
    (table,) = printed_tables(read_grid(PAPERS[0]), records, resolve, lacking)
    files = Site([table]).files()
    page = files[f"{table.slug}.html"]
    assert f'{place.printed.text}</i><sup><a href="#mark-e1" title="erratum of 2026-12-01: Corrected to 12.3.">e1</a>' in page
    assert '<div id="mark-e1"><dt>e1</dt><dd>erratum of 2026-12-01: Corrected to 12.3.</dd></div>' in page
    marked = [one for one in json.loads(files["data/results.json"])["results"] if one["errata"]]
    assert [(one["table"], one["errata"]) for one in marked] == [(place.table, ["erratum of 2026-12-01: Corrected to 12.3."])]
    assert files["data/results.csv"].count("erratum of") == 1
    setting = json.loads(files["data/leaderboard.json"])["settings"][0]
    outcomes = [one for row in setting["attacks"] for one in row["published"]["outcomes"]]
    told = [one["errata"] for one in outcomes if one["errata"]]
    assert told == [["erratum of 2026-12-01: Corrected to 12.3."]] and len(outcomes) > 20
    assert "<summary>erratum</summary><ul><li>erratum of 2026-12-01: Corrected to 12.3.</li></ul>" in files[setting["page"]]


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ('record = "0123456789abcdef"\ntext = "x"', "there is no record '0123456789abcdef' here"),
        ('table = "d-vae/table-99"\nrow = ["EM"]\ncolumn = ["JPEG"]\ntext = "x"', "erratum 1: "),
        ('table = "d-vae/table-2"\nrow = ["EM"]\ncolumn = ["nobody"]\ntext = "x"', "prints nothing at row"),
        ('text = "x"', "expected either `record`, or `table`"),
        ('record = "a"', "`text`: Field required"),
        ('record = "a"\ntext = "x\\u202e"', "cannot be seen or changes how text is read"),
    ],
)
def test_an_erratum_on_nothing_is_refused(tmp_path, fields, sentence):
    """With a slip in an id the erratum would stand nowhere, and nobody would notice."""
    records = errata(Records(tmp_path), fields)
    with pytest.raises(FileError) as error:
        made(records)
    assert sentence in str(error.value) and "errata.toml" in str(error.value)


@pytest.mark.parametrize("text", ["erratum = 3", "erratum = [3]", "[erratum]\ntext = 'x'", "[[erratum]]\n", "errata = []", "x"])
def test_a_file_that_lists_no_errata_is_refused_in_a_sentence(tmp_path, text):
    """It is written by hand; an empty one says that there are none."""
    (tmp_path / "errata.toml").write_text("# none so far\n")
    made(Records(tmp_path))
    (tmp_path / "errata.toml").write_text(text)
    with pytest.raises(FileError, match=r"errata\.toml"):
        made(Records(tmp_path))
