"""Items, the one way to write an entry: what is written reads back the same, and what cannot be read says why."""

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from unlearnable_bench.registry import EntryError
from unlearnable_bench.registry.spec import parse, read_value, split, write_spec, write_value

words = st.from_regex(r"[A-Za-z][A-Za-z0-9_.:-]*", fullmatch=True).filter(
    lambda w: len(w) <= 64 and w.lower() not in ("true", "false") and isinstance(read_value(w), str)
)
names = st.from_regex(r"[a-z0-9][a-z0-9._-]*", fullmatch=True)
keys = st.from_regex(r"[a-z][a-z0-9_]*", fullmatch=True)
numbers = st.floats(allow_nan=False, allow_infinity=False) | st.builds(lambda n: n / 255, st.integers(-600, 600))
values = st.booleans() | st.integers(-(10**18), 10**18) | numbers | words


@given(values)
@example(1e22)
@example(-7.1e304)
@example(-0.0)
@example(5e-324)
@example(1 / 3)
@example(2 / 3 / 255)
def test_a_value_reads_back_as_what_was_written(found):
    """Short names on pages and in logs must mean the very same numbers, to the last bit, and the same type."""
    again = read_value(write_value(found))
    assert again == found and type(again) is type(found)


@given(names, st.dictionaries(keys, values, max_size=4))
def test_an_item_reads_back_as_what_was_written(name, fields):
    """`write` makes what people copy from a page into a command."""
    (part,) = parse(write_spec(name, fields))
    assert (part.name, dict(part.given), part.scale) == (name, fields, 1.0)


@given(st.lists(st.tuples(names, st.dictionaries(keys, values, max_size=2)), min_size=1, max_size=4))
def test_a_chain_reads_back_as_its_parts(parts):
    """`a+b(c=1e+22)`: a plus inside parentheses is part of a number, outside it joins."""
    again = parse("+".join(write_spec(name, fields) for name, fields in parts))
    assert [(p.name, dict(p.given)) for p in again] == parts


@given(st.integers(-1000, 1000), st.integers(1, 1000))
def test_a_fraction_is_the_quotient(above, below):
    """8/255 in a command is 8 / 255 in Python, not a decimal near it."""
    assert read_value(f"{above}/{below}") == above / below


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("8/255", 8 / 255),
        ("-0.8/255", -0.8 / 255),
        ("3", 3),
        ("+3", 3),
        ("3.0", 3.0),
        ("1e-3", 1e-3),
        ("true", True),
        ("False", False),
        ("l2", "l2"),
        ("small-cnn", "small-cnn"),
        ("nan", "nan"),
        ("inf", "inf"),
    ],
)
def test_a_value_has_the_type_that_it_looks_like(written, expected):
    """`steps=3` is an int and `epsilon=3.0` a float; what is no finite number is a word, which no number field takes."""
    assert read_value(written) == expected and type(read_value(written)) is type(expected)


def test_n_over_255_is_written_as_such():
    """People know 8/255; nobody knows 0.03137254901960784."""
    assert write_value(8 / 255) == "8/255"
    assert write_spec("em", {"epsilon": 8 / 255, "staged": True, "lr": 0.1}) == "em(epsilon=8/255,staged=true,lr=0.1)"


def test_dashes_and_underscores_are_the_same_in_keys():
    """Entries have dashes and Python fields underscores; nobody should have to remember which is where."""
    assert parse("at(step-size=1/255)") == parse("at(step_size=1/255)")


def test_spaces_do_not_matter():
    """Items come from TOML files that people align."""
    assert parse(" lsp ( norm = l2 , patch=8 ) + none ") == parse("lsp(norm=l2,patch=8)+none")


def test_empty_parentheses_are_allowed():
    """`em()` is `em`."""
    assert parse("em()") == parse("em")


def test_a_protocol_may_carry_a_factor_for_its_epochs():
    """`dvae@0.1` is another protocol than `dvae`, written so that one sees it."""
    (part,) = parse("dvae@0.1(lr=0.2)")
    assert (part.name, part.scale, dict(part.given)) == ("dvae", 0.1, {"lr": 0.2})


@pytest.mark.parametrize(
    ("text", "name", "fields"),
    [
        ("folder:/data/cats", "folder:/data/cats", {}),
        ("folder:/data/cats(size=64,per-class=5)", "folder:/data/cats", {"size": 64, "per_class": 5}),
        ("folder:/data/cats (old)", "folder:/data/cats (old)", {}),
        ("folder:/data/cats (old)(size=16)", "folder:/data/cats (old)", {"size": 16}),
        ("folder:/a+b/(c)/d", "folder:/a+b/(c)/d", {}),
        ("folder:my pictures()", "folder:my pictures", {}),
        ("folder:C:/x(size=1)", "folder:C:/x", {"size": 1}),
    ],
)
def test_a_folder_keeps_its_path_as_it_is(text, name, fields):
    """Paths have spaces, plus signs and parentheses; only a last pair of parentheses with key=value is ours."""
    (part,) = parse(text)
    assert (part.name, dict(part.given)) == (name, fields)


MALFORMED = [
    "",
    " ",
    "+",
    "em+",
    "+em",
    "em++jpeg",
    "em(",
    "em)",
    "em(epsilon",
    "em(epsilon)",
    "em(epsilon=)",
    "em(=8)",
    "em(epsilon=8/255",
    "em(epsilon=8/0)",
    "em(epsilon=8/255))",
    "em(epsilon=(8))",
    "em(a=1)(b=2)",
    "em(a=1)b",
    "em(a=1,)",
    "em(,a=1)",
    "em(a=1 b=2)",
    "em(a=1,a=2)",
    "em(a-b=1,a_b=2)",
    "em(8a=1)",
    "em(a=b c)",
    "em(a='x')",
    "em(a=$HOME)",
    "em a",
    "../em",
    "-em",
    "em@",
    "em@x",
    "em@0",
    "em@-1",
    "em@inf",
    "em@nan",
    "em(a=1)@0.5",
    "em(a=" + "9" * 5000 + ")",
    "em(a=1/" + "9" * 400 + ")",
    "em(a=1/" + "9" * 5000 + ")",
    "em(a=" + "9" * 400 + "/3)",
    "folder:",
    "folder: ",
    "folder:(size=3)",
    "folder:x(size=1,size=2)",
    "folder:x(size=)",
]


@pytest.mark.parametrize("text", MALFORMED, ids=lambda text: text[:20])
def test_a_malformed_item_gives_one_sentence(text):
    """The command prints it as it is and exits with 2: one line, naming what was written."""
    with pytest.raises(EntryError) as caught:
        parse(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) > 15


@given(st.text(alphabet="ab(),=+-_/.@: 0123456789ef\n", max_size=30))
def test_any_text_is_an_item_or_an_entry_error(text):
    """Nothing that a user types ends in a traceback."""
    try:
        parts = parse(text)
    except EntryError:
        return
    for part in parts:
        assert part.name and 0 < part.scale < math.inf
        assert all(not isinstance(v, float) or math.isfinite(v) for v in part.given.values())


@given(st.text(alphabet="ab,+()", max_size=20))
def test_splitting_loses_nothing(text):
    """Joined again, the parts are the text, and no separator is left outside parentheses."""
    try:
        parts = split(text, ",")
    except EntryError:
        return
    assert ",".join(parts) == text
    assert all(split(part, ",") == [part] for part in parts)
