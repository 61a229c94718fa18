"""A table that somebody copied becomes the two files of a paper's table: labels and digits kept, entries guessed."""

import io
import json

import pytest
from conftest import call_bench

from unlearnable_bench.benchmark.paste import PastedTable, guess
from unlearnable_bench.results import FileError, read_table

ROWS = {"w/o": ("12.3", "6.3 ± 0.2", "-"), "JPEG": ("85.6", "85.0", "?"), "AT": ("84", "83", "9.99")}
FORMS = {
    "markdown": "| | EM | TAP | SP |\n|--|:-:|--|--|\n| w/o | **12.3** | 6.3 ± 0.2 | \u2013 |\n"
    "| JPEG | 85.6% | 85.0 | n/a |\n| AT | 84 | 83 | 9.99 |",
    "latex": r"& EM & TAP & SP \\ \hline w/o & \textbf{12.3} & 6.3 $\pm$ 0.2 & -- \\ "
    r"JPEG & 85.6\% & 85.0 & x \\ AT & 84 & 83 & 9.99 \\",
    "csv": ",EM,TAP,SP\nw/o,12.3,6.3 ± 0.2,-\nJPEG,85.6,85.0,x\nAT,84,83,9.99\n",
    "tabs": "\tEM\tTAP\tSP\nw/o\t12.3\t6.3 ± 0.2\t-\nJPEG\t85.6\t85.0\tx\nAT\t84\t83\t9.99\n",
    "html": "<table><tr><th></th><th>EM</th><th>TAP</th><th>SP</th></tr>"
    "<tr><td>w/o</td><td><b>12.3</b></td><td>6.3 ± 0.2</td><td>\u2013</td></tr>"
    "<tr><td>JPEG</td><td>85.6</td><td>85.0</td><td>x</td></tr><tr><td>AT</td><td>84</td><td>83</td><td>9.99</td></tr></table>",
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_labels_and_digits(form):
    """Signs of type are dropped, a deviation and a dash are kept, what is no number is not legible."""
    pasted = PastedTable.read(FORMS[form])
    assert pasted.columns == ("EM", "TAP", "SP")
    assert dict(pasted.rows) == ROWS


@pytest.mark.parametrize(
    ("kind", "printed", "spec"),
    [
        ("attacks", "EM", "em(seed=0)"),
        ("attacks", "Clean (no poison)", "none"),
        ("attacks", "SP", "lsp(seed=0)"),
        ("attacks", "EM + OPS", "ops-em(seed=0)"),
        ("defenses", "w/o", "none"),
        ("defenses", "ISS-J [25]", "jpeg"),
        ("defenses", "D-VAE", "d-vae"),
        ("defenses", "Ours", "?"),
    ],
)
def test_a_printed_label_is_guessed_or_left_open(kind, printed, spec):
    """A wrong guess would be believed; where no entry is called so there is none."""
    assert guess(kind, printed) == spec


def test_the_command_writes_two_files_that_need_only_what_no_table_says(tmp_path):
    """With a title, a protocol and the open entries filled in, the program reads them with every value."""
    source, folder = tmp_path / "copied.md", tmp_path / "made"
    source.write_text(FORMS["markdown"])
    command = ("paste", source, "--paper", "d-vae", "--table", "II", "--out", folder)
    out, _ = call_bench(*command, "--json")
    made = json.loads(out)
    assert made["unknown"] == [] and made["files"] == [str(folder / f"table-ii.{ending}") for ending in ("toml", "csv")]
    toml = folder / "table-ii.toml"
    toml.write_text(toml.read_text().replace('protocol = "?"', 'protocol = "dvae"'))
    table = read_table(str(toml))
    printed = {(one.row[0], one.column[0]): one.printed for one in table.requests()}
    assert printed["w/o", "TAP"].value == 6.3 and printed["AT", "SP"].text == "9.99" and printed["JPEG", "SP"].value is None
    _, error = call_bench(*command, code=2)
    assert f"{toml} is there already" in error


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--paper", "../up", "--table", "2"), "paper '../up' cannot name a folder; expected lower-case letters"),
        (("--paper", "x", "--table", "../../2"), "table '../../2' cannot name a file; expected letters and digits"),
        (("--paper", "x", "--table", "2", "--out", "copied.md/below"), "cannot write to copied.md/below: Not a directory"),
    ],
)
def test_nothing_is_written_outside_of_the_folder(options, sentence, monkeypatch, tmp_path):
    """A name with a path in it would go anywhere; a folder that cannot be made is named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "copied.md").write_text(FORMS["markdown"])
    _, error = call_bench("paste", "copied.md", *options, code=2)
    assert sentence in error and [path.name for path in tmp_path.iterdir()] == ["copied.md"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [("hello", "there is no table in it"), (",EM\nw/o,1\nJPEG,1,2\n", "line 3 of the table has 3 cells, expected 2")],
)
def test_what_is_no_table_is_one_sentence(text, sentence, monkeypatch, tmp_path):
    """Nothing is written then."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    _, error = call_bench("paste", "-", "--paper", "x", "--table", "1", "--out", tmp_path / "made", code=2)
    assert sentence in error and not (tmp_path / "made").exists()
    with pytest.raises(FileError, match=sentence):
        PastedTable.read(text)
