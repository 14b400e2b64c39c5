"""The content of a model's card, without HTML."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest

from app.signature import Picture
from app.web.cards import card_of, curl, inputs_of, labels_of
from app.web.playground import playground
from tests.web.stage import STORED

ENTRIES = {entry["name"]: entry for entry in STORED["models"]}
ROOT = "http://models.example:8000/"


def described(name: str, **changed: Any) -> dict[str, Any]:
    return STORED["described"][name] | changed


def card(name: str, **changed: Any) -> dict[str, Any]:
    return card_of(ENTRIES[name], described(name, **changed))


def play(name: str, **changed: Any) -> dict[str, Any]:
    return playground(described(name, **changed), None, ROOT)


def sent(line: str) -> tuple[str, Any]:
    """Let a real shell run a command line, and return the URL and the body of its request."""
    printed = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout.decode()
    program, url, flag, body, rest = printed.split("\0")
    assert (program, flag, rest) == ("curl", "-d", "")
    return url, json.loads(body)


@pytest.mark.parametrize("name", sorted(STORED["described"]))
def test_the_shell_sends_exactly_the_recorded_example(name: str) -> None:
    url, body = sent(play(name)["curl"])
    assert url == f"{ROOT}models/{name}/predict"
    assert body == STORED["described"][name]["examples"][0]["instance"]


@pytest.mark.parametrize(
    "text", ["it's", '"', "$HOME `id` $(id)", "\\n\n\t", "a'b\"c", "für 5 €", "\ud800", "\u202eabc", "-d @x"]
)
def test_any_text_survives_the_shell(text: str) -> None:
    line = curl(ROOT, {text: text})
    assert line.isprintable()
    assert sent(line) == (ROOT, {text: text})


def test_a_strange_host_cannot_start_a_second_command() -> None:
    assert shlex.split(curl("http://a;id/predict", {}))[1] == "http://a;id/predict"


def test_without_a_recorded_example_the_request_is_made_of_the_inputs_and_no_answer_is_claimed() -> None:
    made = play("iris-two", examples=[])
    assert sent(made["curl"])[1] == {"feature1": 5.1, "feature2": 3.5}
    assert made["answer"] is None
    assert card("iris-two", examples=[])["answer"] == ""


def test_rows_are_sent_as_records() -> None:
    made = play("iris-two", examples=[{"instance": [5.1, 3.5], "prediction": 0}])
    assert sent(made["curl"])[1] == {"feature1": 5.1, "feature2": 3.5}


def test_a_card_has_the_beginning_of_an_example_and_its_prediction() -> None:
    made = card("penguins")
    assert made["example"][0] == ("island", "Torgersen")
    assert (len(made["example"]), made["more"], made["answer"]) == (3, 4, "Adelie")


def test_the_numbers_on_a_card_have_six_figures_at_most() -> None:
    made = card("iris-two", examples=[{"instance": {"a": 8.500488203230661, "b": 2.0}, "prediction": 0}])
    assert made["example"] == [("a", "8.50049"), ("b", "2")]


def test_inputs_are_described_by_their_known_facts() -> None:
    island, length, *_, year = inputs_of(described("penguins"))
    assert (island["choices"], island["nullable"], island["seen"]) == (["Biscoe", "Dream", "Torgersen"], False, "")
    assert (length["seen"], length["nullable"], length["kind"]) == ("32.1 to 59.6", True, "number")
    assert (year["seen"], year["kind"]) == ("2007 to 2009", "integer")


@pytest.mark.parametrize(
    ("minimum", "maximum", "seen"),
    [
        (None, None, ""),
        (0, None, "from 0"),
        (None, 1.5, "up to 1.5"),
        (3.0, 3.0, "only 3"),
        (-0.123456789, 1e21, "-0.123457 to 1e+21"),
    ],
)
def test_ranges_in_words(minimum: object, maximum: object, seen: str) -> None:
    (shown,) = inputs_of({"inputs": [{"name": "x", "kind": "number", "minimum": minimum, "maximum": maximum}]})
    assert shown["seen"] == seen


@pytest.mark.parametrize(("mode", "seen"), [("L", "8 x 6 grey"), ("RGB", "8 x 6 in colour")])
@pytest.mark.parametrize("form", [dict, Picture], ids=["json", "plain"])
def test_an_image_is_described_as_accepted_and_as_seen_by_the_model(form: Any, mode: str, seen: str) -> None:
    picture = form(mode=mode, width=8, height=6)
    taken = {
        "name": "image",
        "kind": "image",
        "minimum": 0,
        "maximum": 16,
        "image": picture,
        "example": "iVBO" * 40,
    }
    (shown,) = inputs_of({"inputs": [taken]})
    assert shown == {"name": "image", "kind": "image", "accepts": "PNG, JPEG or WebP", "becomes": seen}


def test_an_array_says_its_shape() -> None:
    taken = {"name": "x", "kind": "array", "shape": [8, 8], "dtype": "float32", "minimum": 0, "maximum": 16}
    (shown,) = inputs_of({"inputs": [taken]})
    assert (shown["accepts"], shown["seen"]) == ("8 x 8 of float32", "0 to 16")


def test_a_model_with_steps_names_them_and_claims_no_answer() -> None:
    inputs = [
        {"name": "customer", "kind": "integer"},
        {"name": "city", "kind": "category", "categories": ["Bern", "Basel"]},
        {"name": "age", "kind": "number", "example": 41.5},
    ]
    made = play("iris-two", inputs=inputs, examples=[], steps={"before": ["enrich"], "after": ["price", "log"]})
    assert (made["steps"], made["answer"]) == (["enrich", "price", "log"], None)
    assert sent(made["curl"])[1] == {"customer": 1, "city": "Bern", "age": 41.5}


def test_labels_show_what_would_be_invisible() -> None:
    taken = {"name": "x", "kind": "category", "categories": ["a", "", " b", 1, True, None, "c\n"]}
    assert inputs_of({"inputs": [taken]})[0]["choices"] == ["a", '""', '" b"', "1", "true", "null", '"c\\n"']


def test_inputs_are_counted_by_kind() -> None:
    assert card("digits")["census"] == "64 numbers"
    assert card("penguins")["census"] == "4 numbers, 2 categories, 1 integer"


def test_a_card_counts_the_versions_that_are_not_shown() -> None:
    made = card("penguins")
    assert (made["current"]["version"], made["current"]["aliases"]) == (3, ["champion"])
    assert (made["default"], made["others"]) == (True, 2)


def test_several_outputs_have_several_lists_of_classes() -> None:
    assert labels_of([["a", "b"], [0, 1]]) == ("a / b", "0 / 1")


def test_a_model_that_cannot_answer_says_why() -> None:
    made = card_of(ENTRIES["churn"], {})
    assert (made["available"], "answer" in made, made["current"]["state"]) == (False, False, "FAILED")
    assert "SHA-256" in made["current"]["reason"]


def test_a_model_whose_version_was_retired_meanwhile_is_not_shown_as_available() -> None:
    made = card_of(ENTRIES["diabetes"], {})
    assert (made["available"], made["current"]["reason"]) == (False, "its last version was retired")


def test_a_model_without_versions_is_still_a_card() -> None:
    made = card_of({"name": "hollow", "default": False, "versions": []}, {})
    assert (made["available"], made["current"]["reason"]) == (False, "this model has no version")
