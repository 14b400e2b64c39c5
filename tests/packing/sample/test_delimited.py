"""Delimited text: encodings, separators, number formats, markers, indexes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from app.packing.sample import read
from app.packing.sample.expected import NOTHING, Column, Expected
from tests.packing.sample.kinds import HOUSES, ROWS, TEXT, read_content, rows_of

TEXTS = Expected(width=1, positions=(Column(text=True),), targets=("kind",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TEXT.encode(), "UTF-8, separated by ','"),
        (TEXT.encode("utf-8-sig"), "UTF-8, separated by ','"),
        (TEXT.replace(",", "\t").encode("utf-16"), "UTF-16, separated by tabs"),
        (TEXT.replace(",", "\t").encode("utf-16-be"), "UTF-16, separated by tabs"),
        (TEXT.replace(",", ";").encode("latin-1"), "Windows-1252 (Latin-1), separated by ';'"),
        (TEXT.replace(",", "|").encode(), "UTF-8, separated by '|'"),
        (TEXT.replace(",", "  ").encode(), "UTF-8, separated by spaces"),
        (("sep=;\r\n" + TEXT.replace(",", ";").replace("\n", "\r\n")).encode(), "separated by ';', as its line sep="),
        (("sep=^\n" + TEXT.replace(",", "^")).encode(), "separated by '^', as its line sep= says"),
    ],
)
def test_encoding_and_separator_are_found_and_noted(tmp_path: Path, content: bytes, message: str) -> None:
    sample = read_content(tmp_path, "rows.csv", content)
    assert rows_of(sample) == ROWS
    assert message in sample.notes[0]
    assert sample.target is not None
    assert sample.target.tolist() == ["a", "b", "a"]


@pytest.mark.parametrize(
    "content",
    [
        "price;weight;city;zip;kind\n1.200,50;1,25;Köln;00501;a\n900,00;2,5;Bonn;10115;b\n\\N;;NA;00502;a\n",
        "price;weight;city;zip;kind\n1 200,5;1,25;Köln;00501;a\n900;2,5;Bonn;10115;b\nn.a.;?;NA;00502;a\n",
        "price;weight;city;zip;kind\n1\u202f200,5;1,25;Köln;00501;a\n900;2,5;Bonn;10115;b\n;;NA;00502;a\n",
        'price,weight,city,zip,kind\n"1,200.5",1.25,Köln,00501,a\n900,2.5,Bonn,10115,b\n-,--,NA,00502,a\n',
        "price\tweight\tcity\tzip\tkind\n1'200.5\t1.25\tKöln\t00501\ta\n900\t2.5\tBonn\t10115\tb\n\t\tNA\t00502\ta\n",
        'price,weight,city,zip,kind\n"1200,5","1,25",Köln,00501,a\n"900,0","2,5",Bonn,10115,b\n,,NA,00502,a\n',
    ],
)
def test_number_formats_of_different_countries_are_read(tmp_path: Path, content: str) -> None:
    sample = read_content(tmp_path, "rows.csv", content)
    assert rows_of(sample) == ROWS
    assert any(note.startswith("sample: numbers with decimal ") for note in sample.notes)


def test_a_typical_value_distinguishes_thousands_from_decimals(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.csv", "price;weight;city;zip;kind\n1.200;1,250;Bonn;00501;a\n")
    assert sample.frame[["price", "weight"]].iloc[0].tolist() == [1200, 1.25]


def test_a_point_is_a_decimal_separator_without_signs_of_a_comma(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.csv", "a;b;kind\n1.234;5;x\n2.345;6;y\n", NOTHING)
    assert rows_of(sample) == {"a": [1.234, 2.345], "b": [5, 6]}
    assert sample.notes == ("sample: 2 rows, UTF-8, separated by ';'",)


@pytest.mark.parametrize(
    ("content", "dropped"),
    [
        (",price,weight,city,zip,kind\n0,1,2,Bonn,00501,a\n1,3,4,Bonn,00501,a\n", "Unnamed: 0"),
        ("price weight city zip kind\n1 1 2 Bonn 00501 a\n2 3 4 Bonn 00501 a\n", "Unnamed: 0"),
        ("price;weight;city;zip;kind\n1;2;Bonn;00501;a;\n3;4;Bonn;00501;a;\n", "Unnamed: 5"),
        ("price;weight;city;zip;kind;\n1;2;Bonn;00501;a;\n3;4;Bonn;00501;a;\n", "Unnamed: 5"),
        ("index,price,weight,city,zip,kind\n0,1,2,Bonn,00501,a\n1,3,4,Bonn,00501,a\n", "index"),
    ],
)
def test_an_index_column_is_dropped_with_a_note(tmp_path: Path, content: str, dropped: str) -> None:
    sample = read_content(tmp_path, "rows.csv", content)
    assert rows_of(sample) == {"price": [1, 3], "weight": [2, 4], "city": ["Bonn"] * 2, "zip": ["00501"] * 2}
    assert any(note.startswith(f"sample column {dropped!r} dropped: ") for note in sample.notes)


def test_an_index_column_that_the_model_was_fitted_on_stays(tmp_path: Path) -> None:
    expected = Expected(names=("Unnamed: 0", "a"), width=2)
    sample = read_content(tmp_path, "rows.csv", ",a,kind\n0,1,x\n1,2,y\n", expected)
    assert list(sample.frame.columns) == ["Unnamed: 0", "a"]


def test_the_index_of_a_matrix_is_found_by_its_width(tmp_path: Path) -> None:
    assert read_content(tmp_path, "rows.csv", ",a,kind\n0,1,x\n", Expected(width=1)).frame.shape == (1, 1)
    assert read_content(tmp_path, "rows.csv", ",a,kind\n0,1,x\n", Expected(width=2)).frame.shape == (1, 2)


def test_rows_without_a_line_of_names_are_read(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.data", "5.1,3.5,a\n4.9,3.0,b\n", Expected(width=2))
    assert rows_of(sample) == {"feature1": [5.1, 4.9], "feature2": [3.5, 3.0]}
    assert "its first line has no names" in sample.notes[1]


def test_texts_with_commas_in_one_column_are_read(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_text('text\nhello, world\n"a; ""b"""\nplain\n')
    assert rows_of(read(tmp_path / "rows.txt", None, TEXTS)) == {"text": ["hello, world", 'a; "b"', "plain"]}
    sample = read_content(tmp_path, "rows.csv", "kind;text\n1;hello, world\n0;one, two\n", TEXTS)
    assert rows_of(sample) == {"text": ["hello, world", "one, two"]}


def test_numbers_equal_those_of_pandas(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "float": [0.1 + 0.2, 1e-300, None, 1.0],
            "whole": [1, 2**60, 3, -4],
            "truth": [True, False, True, True],
            "text": ["1a", "x,y", 'quo"ted', None],
            "mixed": ["a", "1", "?", "-"],
            "empty": [None] * 4,
        }
    )
    frame.assign(kind=1).to_csv(tmp_path / "pandas.csv", index=False)
    expected = pd.read_csv(tmp_path / "pandas.csv").drop(columns="kind")
    found = read_content(tmp_path, "rows.csv", (tmp_path / "pandas.csv").read_bytes(), NOTHING)
    pd.testing.assert_frame_equal(found.frame, expected)


def test_a_marker_is_noted_and_a_learned_word_is_a_value(tmp_path: Path) -> None:
    notes = read_content(tmp_path, "rows.csv", TEXT).notes
    assert notes[1:] == (
        "sample column 'price': '?' taken for missing, in 1 row",
        "sample column 'weight': '-' taken for missing, in 1 row",
        "sample column 'city': 'NA' taken as a value that the model has learned",
        "sample column 'zip' read as text, such as '00501': the model has learned strings",
    )


@pytest.mark.parametrize("marker", ["?", "-", "\\N", "NA", "N/A", "null", "", " ", ".", "n.a.", "#DIV/0!", "missing"])
def test_a_number_column_with_a_marker_stays_numbers(tmp_path: Path, marker: str) -> None:
    sample = read_content(tmp_path, "rows.csv", f"a,b,kind\n1.5,x,x\n{marker},x,x\n2,y,y\n", NOTHING)
    assert rows_of(sample)["a"] == [1.5, None, 2.0]
    assert sample.frame["a"].dtype == "float64"


def test_a_word_among_learned_numbers_means_missing(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.csv", TEXT.replace("?", "fehlt"))
    assert rows_of(sample) == ROWS
    assert "sample column 'price': 'fehlt' taken for missing, in 1 row" in sample.notes


def test_a_word_among_unknown_numbers_is_noted(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.csv", "a,kind\n1,x\n2,x\n3,x\nfoo,x\n", NOTHING)
    assert sample.notes[1] == "sample column 'a' read as text: 3 of 4 values are numbers, but 'foo' is not"


def test_unknown_codes_are_noted(tmp_path: Path) -> None:
    sample = read_content(tmp_path, "rows.csv", "zip,kind\n00501,x\n10115,y\n", NOTHING)
    assert rows_of(sample) == {"zip": [501, 10115]}
    assert "'00501' read as the number 501" in sample.notes[1]


def test_declared_text_keeps_its_zeros(tmp_path: Path) -> None:
    for column in (Column(text=True), Column(may_be_text=True)):
        expected = Expected(columns={"zip": column})
        sample = read_content(tmp_path, "rows.csv", "zip,kind\n00501,x\n10115,y\n", expected)
        assert rows_of(sample) == {"zip": ["00501", "10115"]}


def test_facts_of_a_matrix_are_known_by_position(tmp_path: Path) -> None:
    expected = Expected(width=2, positions=(HOUSES.columns["zip"], Column(typical=1.0)))
    sample = read_content(tmp_path, "rows.csv", ",kind,zip,n\n0,a,00501,1\n1,b,10115,?\n", expected)
    assert rows_of(sample) == {"zip": ["00501", "10115"], "n": [1, None]}
