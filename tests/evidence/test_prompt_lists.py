"""Prompt lists, written here in exactly the shapes in which their authors publish them."""

import csv
import io
import json
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lib_memstab.evidence import prompt_lists
from lib_memstab.evidence.prompt_lists import PromptListError, read_list

CAPTIONS = ["The No Limits Business Woman Podcast", "Aero 51-204690BL 51 Series 15x10 Wheel", 'Prince "Reborn" Vinyl']


@pytest.fixture
def written(tmp_path):
    """Writes a list and reads it; its name says nothing of its shape."""

    def write(data, name="list.dat"):
        path = tmp_path / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode("utf-8"))
        return read_list(path)

    return write


def texts(found):
    return [one.text for one in found.prompts]


def test_jsonl_with_caption_index_and_url(written):
    rows = [{"caption": text, "index": 9 + place, "url": f"https://x/{place}"} for place, text in enumerate(CAPTIONS)]
    found = written("".join(json.dumps(row) + "\n" for row in rows))
    assert found.shape == "JSONL"
    assert texts(found) == CAPTIONS
    assert [one.index for one in found.prompts] == ["9", "10", "11"]
    assert [one.addresses for one in found.prompts] == [("https://x/0",), ("https://x/1",), ("https://x/2",)]
    assert [one.line for one in found.prompts] == [1, 2, 3]
    assert found.broken == ()


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_text_with_and_without_a_last_newline_and_a_byte_order_mark(written, end, mark):
    found = written(mark + ((end or "\n").join(CAPTIONS) + end).encode("utf-8"))
    assert found.shape == "text"
    assert texts(found) == CAPTIONS
    assert found.broken == ()


@pytest.mark.parametrize("first", ["", ";"])
def test_csv_parted_by_semicolons_keeps_the_kind(written, first):
    lines = [f"{first}Caption;URL;type;mean_sscd;max_sscd;Index"]
    lines += [
        f"{first and '0;'}{CAPTIONS[0]};https://a/b.jpg;VM;0.839;0.846;1030727993",
        f"{first and '1;'}{CAPTIONS[1]};https://a/c.jpg;TM;0.5;0.6;2",
        f'{first and "2;"}"{CAPTIONS[2].replace(chr(34), chr(34) * 2)}; live";https://a/d.jpg;;0.5;0.6;3',
    ]
    found = written("\n".join(lines) + "\n")
    assert found.shape == "CSV"
    assert texts(found) == [CAPTIONS[0], CAPTIONS[1], CAPTIONS[2] + "; live"]
    assert [one.kind for one in found.prompts] == ["verbatim", "template", ""]
    assert [one.index for one in found.prompts] == ["1030727993", "2", "3"]
    assert [one.line for one in found.prompts] == [2, 3, 4]


def test_csv_with_an_unnamed_index_and_a_python_list_of_addresses(written):
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerow(["", "prompt", "urls"])
    table.writerow([0, "<i>Hamlet</i>, (16:10) poster", str(["https://a/1", "https://a/it's"])])
    table.writerow([1, "two\nlines", str([])])
    table.writerow([2, "plain", "['https://a/3',]"])
    found = written(text.getvalue())
    assert texts(found) == ["<i>Hamlet</i>, (16:10) poster", "two\nlines", "plain"]
    assert [one.addresses for one in found.prompts] == [("https://a/1", "https://a/it's"), (), ("https://a/3",)]
    assert [one.tags for one in found.prompts] == [("<i>", "</i>"), (), ()]
    assert [one.index for one in found.prompts] == ["0", "1", "2"]
    assert [one.line for one in found.prompts] == [2, 3, 5]


def test_parquet_where_pyarrow_is_there(written):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"caption": text, "url": "https://a", "index": 5.0, "overfit_type": "TV"} for text in CAPTIONS]
    file = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist([*rows, {"caption": None}]), file)
    found = written(file.getvalue())
    assert found.shape == "parquet"
    assert texts(found) == CAPTIONS
    assert {(one.kind, one.index) for one in found.prompts} == {("template", "5")}
    assert [one.line for one in found.broken] == [4]
    with pytest.raises(PromptListError, match="cannot be read"):
        written(b"PAR1 and no more")


def test_parquet_without_pyarrow_says_what_to_install(written, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(PromptListError, match="pip install pyarrow"):
        written(b"PAR1 whatever")


@pytest.mark.parametrize(
    ("short", "kind"), [("MV", "verbatim"), ("RV", "retrieved"), ("N", "none"), ("Odd One", "odd one")]
)
def test_the_words_for_kinds_of_other_lists(written, short, kind):
    assert written(json.dumps({"caption": "a", "overfit_type": short})).prompts[0].kind == kind


def test_broken_lines_are_told_by_number_and_do_not_cost_the_others(written):
    found = written(
        '{"caption": "one"}\n{"caption": \n{"caption": "  "}\n\n{"url": "x"}\n{"caption": 7}\n[1]\n'
        '{"caption": "one"}\n{"caption": "' + "a" * 4001 + '"}\n{"caption": "two", "caption": "three"}\n'
        '{"caption": "\\ud800"}\n{"caption": "last"}'
    )
    assert texts(found) == ["one", "last"]
    reasons = {one.line: one.reason for one in found.broken}
    assert list(reasons) == [2, 3, 5, 6, 7, 8, 9, 10, 11]
    assert "empty" in reasons[3]
    assert "caption or prompt" in reasons[5]
    assert "line 1" in reasons[8]
    assert "4000" in reasons[9]
    assert "twice" in reasons[10]


def test_a_first_line_that_is_broken_does_not_change_the_shape(written):
    found = written('{"caption": oops\n{"caption": "two"}\n')
    assert found.shape == "JSONL"
    assert [one.line for one in found.broken] == [1]


def test_a_line_that_is_not_utf8_is_the_only_one_that_is_lost(written):
    found = written("one\nтри\n".encode() + b"caf\xe9\nfour\n")
    assert texts(found) == ["one", "три", "four"]
    assert found.broken == (prompt_lists.Broken(3, "it is not UTF-8"),)


def test_rows_with_too_few_columns_and_open_quotes_cost_their_own_line(written):
    found = written(
        'Caption;URL;type;Index\none;u;VM;1\ntwo;u\n"three;u;VM;3\nfour;u;VM;4\n12" disc;u;VM;5\n7" single;u;VM;6\n'
    )
    assert texts(found) == ["one", "four", '12" disc', '7" single']
    assert [one.line for one in found.broken] == [3, 4]


@pytest.mark.parametrize(
    "cell",
    [
        "[__import__('os')]",
        "['a'",
        "[['a']]",
        "[1, 2]",
        "[" * 9000,
        "['" + "a" * 30_000 + "']",
        "['\\x']",
        "['a' 'b']*9",
    ],
)
def test_addresses_that_are_no_flat_list_of_texts_are_refused_unrun(written, cell):
    found = written(f",prompt,urls\n0,good,['https://a']\n1,bad,\"{cell}\"\n")
    assert texts(found) == ["good"]
    assert [one.line for one in found.broken] == [3]


def test_a_list_without_a_usable_line_is_an_error_that_says_why(written):
    with pytest.raises(PromptListError, match="it is empty"):
        written("\n\n")
    with pytest.raises(PromptListError, match=r"no usable prompt.*line 2: the prompt is empty"):
        written("Caption;URL\n ;x\n")
    with pytest.raises(PromptListError, match="UTF-8"):
        written("prompt".encode("utf-16"))


def test_a_file_that_is_too_large_is_not_read(written, monkeypatch):
    monkeypatch.setattr(prompt_lists, "MAX_BYTES", 100)
    with pytest.raises(PromptListError, match="split it"):
        written("a" * 101)


def test_a_list_that_is_too_long_is_cut_and_says_so(written, monkeypatch):
    monkeypatch.setattr(prompt_lists, "MAX_PROMPTS", 2)
    found = written("a\nb\nc\nd\n")
    assert texts(found) == ["a", "b"]
    assert "at most 2" in found.broken[0].reason


def test_thousands_of_lines_are_read_at_once(written):
    start = time.perf_counter()
    found = written("Caption;URL;type;Index\n" + "".join(f'"a {n}; b";u;VM;{n}\n' for n in range(20_000)))
    assert len(found.prompts) == 20_000
    assert time.perf_counter() - start < 5


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=2, unique=True))
def test_what_a_csv_writer_wrote_is_read_as_it_was(tmp_path_factory, prompts):
    usable = [one.strip() for one in prompts if one.strip()]
    text = io.StringIO(newline="")
    table = csv.writer(text)
    table.writerows([["", "prompt", "urls"], *([n, one, ["https://a"]] for n, one in enumerate(prompts))])
    path = tmp_path_factory.mktemp("lists") / "list"
    path.write_bytes(text.getvalue().encode("utf-8"))
    if usable:
        as_read = [one.replace("\r\n", "\n").replace("\r", "\n") for one in usable]
        assert texts(read_list(path)) == list(dict.fromkeys(as_read))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_a_list_or_an_error_that_names_the_file(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("lists") / "hostile.list"
    path.write_bytes(data)
    try:
        assert read_list(path).prompts
    except PromptListError as error:
        assert "hostile.list" in str(error)  # noqa: PT017 - either outcome is right
