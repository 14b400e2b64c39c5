"""The content of a model's card, without HTML."""

from __future__ import annotations

import json
import shlex
import subprocess
from typing import Any

import pytest

from app.signature import Picture
from app.web.cards import Card, answering_card, curl, has_available, silent_card
from tests.web.stage import STORED

ENTRIES = {entry["name"]: entry for entry in STORED["models"]}
ROOT = "http://models.example:8000/"


def card(name: str, **changed: Any) -> Card:
    return answering_card(ENTRIES[name], STORED["described"][name] | changed, ROOT)


def sent(line: str) -> tuple[str, Any]:
    """The URL and the body that a real shell makes of a command line."""
    printed = subprocess.run(["sh", "-c", f"printf '%s\\0' {line}"], capture_output=True, check=True).stdout.decode()
    program, url, flag, body, rest = printed.split("\0")
    assert (program, flag, rest) == ("curl", "-d", "")
    return url, json.loads(body)


@pytest.mark.parametrize("name", sorted(STORED["described"]))
def test_the_shell_sends_exactly_the_recorded_example(name: str) -> None:
    instance = STORED["described"][name]["examples"][0]["instance"]
    url, body = sent(card(name).curl)
    assert url == ROOT + ("predict" if name == "penguins" else f"models/{name}/predict")
    assert body == (instance if name != "digits" else {"instances": [list(instance.values())]})


@pytest.mark.parametrize(
    "text", ["it's", '"', "$HOME `id` $(id)", "\\n\n\t", "a'b\"c", "für 5 €", "\ud800", "\u202eabc", "-d @x"]
)
def test_any_text_survives_the_shell(text: str) -> None:
    line = curl(ROOT, {text: text})
    assert line.isprintable()
    assert sent(line) == (ROOT, {text: text})


def test_a_strange_host_cannot_start_a_second_command() -> None:
    assert shlex.split(curl("http://a;id/predict", {}))[1] == "http://a;id/predict"


def test_the_answer_equals_the_servers_in_the_order_of_the_contract() -> None:
    answer = json.loads(card("penguins").answer)
    assert list(answer) == ["prediction", "probabilities", "classes", "model", "version"]
    assert answer == {
        "prediction": ["Adelie"],
        "probabilities": [[0.9976470588235294, 0.0, 0.0023529411764705885]],
        "classes": ["Adelie", "Chinstrap", "Gentoo"],
        "model": "penguins",
        "version": 3,
    }
    assert list(json.loads(card("diabetes").answer)) == ["prediction", "model", "version"]


def test_without_a_recorded_example_the_request_is_made_of_the_inputs_and_has_no_answer() -> None:
    made = card("iris-two", examples=[])
    assert sent(made.curl)[1] == {"feature1": 5.1, "feature2": 3.5}
    assert made.answer == ""


def test_rows_are_sent_as_rows() -> None:
    made = card("iris-two", examples=[{"instance": [5.1, 3.5], "prediction": 0}])
    assert sent(made.curl)[1] == {"instances": [[5.1, 3.5]]}


def test_inputs_are_described() -> None:
    island, length, *_, year = card("penguins").inputs
    assert (island.choices, island.nullable, island.seen) == (("Biscoe", "Dream", "Torgersen"), False, "")
    assert (length.seen, length.nullable, length.kind) == ("32.1 to 59.6", True, "number")
    assert (year.seen, year.kind) == ("2007 to 2009", "integer")


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
def test_ranges_are_written_in_words(minimum: object, maximum: object, seen: str) -> None:
    described = {"name": "x", "kind": "number", "minimum": minimum, "maximum": maximum}
    assert card("iris-two", inputs=[described]).inputs[0].seen == seen


@pytest.mark.parametrize(("mode", "seen"), [("L", "8 x 6 grey"), ("RGB", "8 x 6 in colour")])
@pytest.mark.parametrize("form", [dict, Picture], ids=["json", "plain"])
def test_an_image_is_described_as_accepted_and_as_seen_by_the_model(form: Any, mode: str, seen: str) -> None:
    picture = form(mode=mode, width=8, height=6)
    described = {
        "name": "image",
        "kind": "image",
        "minimum": 0,
        "maximum": 16,
        "image": picture,
        "example": "iVBO" * 40,
    }
    (shown,) = card("iris-two", inputs=[described]).inputs
    assert (shown.accepts, shown.becomes, shown.seen, shown.example) == ("PNG, JPEG or WebP", seen, "", "")


def test_an_array_says_its_shape() -> None:
    described = {"name": "x", "kind": "array", "shape": [8, 8], "dtype": "float32", "minimum": 0, "maximum": 16}
    (shown,) = card("iris-two", inputs=[described]).inputs
    assert (shown.accepts, shown.seen) == ("8 x 8 of float32", "0 to 16")


def test_a_model_with_steps_names_them_and_the_values_that_are_not_known() -> None:
    inputs = [
        {"name": "customer", "kind": "integer"},
        {"name": "city", "kind": "category", "categories": ["Bern", "Basel"]},
        {"name": "age", "kind": "number", "example": 41.5},
    ]
    made = card("iris-two", inputs=inputs, examples=[], steps={"before": ["enrich"], "after": ["price", "log"]})
    assert (made.before, made.after, made.answer) == (("enrich",), ("price", "log"), "")
    assert made.invented == ("customer", "city")
    assert sent(made.curl)[1] == {"customer": 1, "city": "Bern", "age": 41.5}


def test_labels_show_what_would_be_invisible() -> None:
    described = {"name": "x", "kind": "category", "categories": ["a", "", " b", 1, True, None, "c\n"]}
    assert card("iris-two", inputs=[described]).inputs[0].choices == ("a", '""', '" b"', "1", "true", "null", '"c\\n"')


def test_wide_models_are_counted_by_kind() -> None:
    assert (card("digits").wide, card("digits").census) == (True, "64 numbers")
    assert (card("penguins").wide, card("penguins").census) == (False, "4 numbers, 2 categories, 1 integer")


def test_the_versions_that_are_not_shown_are_listed_newest_first() -> None:
    made = card("penguins")
    assert (made.current.version, made.current.aliases, made.default) == (3, ("champion",), True)
    assert [(line.version, line.state) for line in made.others] == [(4, "FAILED"), (2, "AVAILABLE")]
    assert "packed with scikit-learn 1.7.2" in made.others[0].reason


def test_several_outputs_have_several_lists_of_classes() -> None:
    assert card("iris-two", classes=[["a", "b"], [0, 1]]).classes == ("a / b", "0 / 1")


def test_the_date_and_the_library_of_packing_are_shown() -> None:
    assert card("penguins").made_with == "Packed 2026-11-20 with scikit-learn 1.9.1"
    assert card("penguins", created=None).made_with == ""


def test_a_model_that_cannot_answer_says_why() -> None:
    made = silent_card(ENTRIES["churn"])
    assert not has_available(ENTRIES["churn"])
    assert (made.available, made.curl, made.current.state) == (False, "", "FAILED")
    assert "SHA-256" in made.current.reason


def test_a_model_whose_version_was_retired_meanwhile_is_not_shown_as_available() -> None:
    made = silent_card(ENTRIES["diabetes"], "its last version was retired")
    assert (made.available, made.current.reason) == (False, "its last version was retired")


def test_a_model_without_versions_is_still_a_card() -> None:
    made = silent_card({"name": "hollow", "default": False, "versions": []})
    assert (made.available, made.current.reason) == (False, "this model has no version")
