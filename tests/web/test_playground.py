"""The playground without JavaScript: posting the form returns a page with the answer of the public API."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from app import create_app
from app.gateway import Interceptor, RequestContext, RequestRefused
from app.settings import Settings
from app.web.answers import answer_view, by_input, percent
from app.web.cards import says
from app.web.model_page import importance_of, model_page, proof_sentences, sentence, shares_of
from tests.web.stage import STORED, StoredCatalogue, make_app

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
HTML = {"Accept": "text/html"}
PENGUIN = {
    "island": "Dream",
    "bill_length_mm": "45",
    "bill_depth_mm": "18",
    "flipper_length_mm": "",
    "body_mass_g": "3000",
    "sex": "male",
    "year": "2008",
}


@pytest.fixture
def client() -> FlaskClient:
    return make_app(StoredCatalogue()).test_client()


@pytest.mark.slow
def test_the_form_is_answered_by_the_public_api_and_stays_filled(client: FlaskClient) -> None:
    answer = client.post("/models/penguins/try", data=PENGUIN, headers=HTML)
    assert answer.status_code == 200
    assert re.search(r'class="headline">Adelie<', answer.text)
    received = re.search(r"<code>received</code> <code>(.*?)</code>", answer.text)
    assert received is not None
    assert received[1].replace("&#34;", '"') == (
        '{"island": "Dream", "bill_length_mm": 45, "bill_depth_mm": 18, "flipper_length_mm": null, '
        '"body_mass_g": 3000, "sex": "male", "year": 2008}'
    )
    assert 'value="3000"' in answer.text
    (command,) = re.findall(r"<code class=\"command\"[^>]*>(.*?)</code>", answer.text)
    assert "&#34;bill_length_mm&#34;: 45, &#34;bill_depth_mm&#34;: 18, &#34;flipper_length_mm&#34;: null" in command


@pytest.mark.slow
def test_an_error_is_shown_beside_its_field(client: FlaskClient) -> None:
    answer = client.post("/models/penguins/try", data=PENGUIN | {"bill_length_mm": "refuse"}, headers=HTML)
    assert answer.status_code == 422
    assert re.search(r'id="f1-error">must be a number<', answer.text)
    assert "1 values are not acceptable" in answer.text
    assert 'value="refuse"' in answer.text
    assert 'aria-invalid="true"' in answer.text


def test_the_address_of_the_form_leads_back_to_the_model(client: FlaskClient) -> None:
    answer = client.get("/models/penguins/try", headers=HTML)
    assert (answer.status_code, answer.headers["Location"]) == (302, "../../models/penguins")


@pytest.mark.slow
def test_the_state_is_in_the_query(client: FlaskClient) -> None:
    page = client.get("/models/penguins?bill_length_mm=50.5&island=Dream", headers=HTML).text
    assert 'value="50.5"' in page
    assert re.search(r'value="Dream" checked', page)
    assert "{&#34;island&#34;: &#34;Dream&#34;, &#34;bill_length_mm&#34;: 50.5," in page


@pytest.mark.slow
def test_a_model_that_is_down_has_a_page_without_a_form(client: FlaskClient) -> None:
    page = client.get("/models/churn", headers=HTML)
    assert page.status_code == 200
    assert "This version does not answer now" in page.text
    assert "<form" not in page.text
    assert client.post("/models/churn/try", data={}, headers=HTML).status_code == 200


def test_errors_are_placed_by_their_pointers() -> None:
    inputs = [{"name": name} for name in ("a/b", "é ~", "x.y", "image")]
    found = [
        {"pointer": "#/a~1b", "detail": "one"},
        {"pointer": "#/instances/0/%C3%A9%20~0", "detail": "two"},
        {"pointer": "#/instances/0/x/y", "detail": "three"},
        {"pointer": "#/image/0/3", "detail": "four"},
        {"pointer": "#", "detail": "five"},
        {"pointer": "#/other", "detail": "six"},
    ]
    placed, general = by_input({"inputs": inputs}, found)
    assert placed == {"a/b": "one", "é ~": "two", "x.y": "three", "image": "four"}
    assert general == ("five", "other six")


@pytest.mark.parametrize(
    ("share", "text"), [(1.0, "100 %"), (0.0, "0 %"), (0.9999, "> 99.9 %"), (0.0001, "< 0.1 %"), (0.934, "93.4 %")]
)
def test_a_probability_is_never_rounded_to_certainty(share: float, text: str) -> None:
    assert percent(share) == text


def test_the_likeliest_of_many_classes_have_a_bar() -> None:
    document = {"prediction": [19], "probabilities": [[number / 190 for number in range(20)]], "classes": [*range(20)]}
    view = answer_view({"inputs": [], "task": "classifier"}, 200, document)
    assert [bar["label"] for bar in view["bars"]] == ["19", "18", "17", "16", "15", "14", "13", "12"]


@pytest.mark.parametrize(
    ("document", "headline"),
    [
        ({"prediction": [200.88827]}, "200.888"),
        ({"prediction": [[1.5, "a"]]}, "1.5, a"),
        ({"prediction": ["  x"]}, '"  x"'),
        ({"prediction": [None]}, "null"),
    ],
)
def test_predictions_in_one_line(document: dict[str, Any], headline: str) -> None:
    assert answer_view({"inputs": []}, 200, document)["headline"] == headline


def test_an_outlier_is_named() -> None:
    assert answer_view({"inputs": [], "task": "outlier_detector"}, 200, {"prediction": [-1]})["headline"] == "outlier"


def test_the_task_of_a_model_is_a_sentence() -> None:
    described = STORED["described"]
    assert sentence(described["penguins"]) == (
        "Predicts Adelie, Chinstrap or Gentoo from 4 numbers, 2 categories and 1 integer."
    )
    assert sentence(described["digits"]) == "Predicts one of the classes 0 to 9 from 64 numbers."
    assert sentence(described["diabetes"]) == "Predicts a number from 10 numbers."
    pair = described["diabetes"] | {"examples": [{"instance": {}, "prediction": [1.5, 2.5]}]}
    assert sentence(pair) == "Predicts 2 numbers from 10 numbers."
    labels = described["iris-two"] | {"classes": [[0, 1], ["a", "b"]]}
    assert sentence(labels) == "Predicts 2 labels from 2 numbers."


@pytest.mark.parametrize(
    ("task", "prediction", "words"),
    [
        ("regressor", 1.5, "Predicted number"),
        ("regressor", [1.5, 2.5], "Predicted numbers"),
        ("clusterer", 1, "Cluster"),
        ("classifier", "a", "Prediction"),
    ],
)
def test_a_prediction_has_a_heading_for_its_task(task: str, prediction: object, words: str) -> None:
    assert says({"task": task, "examples": [{"instance": {}}, {"instance": {}, "prediction": prediction}]}) == words


def test_the_proof_is_shown_in_sentences() -> None:
    proof = {
        "proven": True,
        "rows": 6312,
        "rows_refused_by_estimator": 3,
        "largest_difference": 0.0,
        "graph_us": 55.75,
        "artifact_us": 36195.94,
    }
    assert proof_sentences(proof) == [
        "Packing compared the graph with the artifact on 6,312 rows: every answer was identical.",
        "Both refused the same 3 rows.",
        "One row takes 55.8 µs as a graph and 36.2 ms as the artifact, 649 times as long.",
    ]
    assert proof_sentences({"proven": False, "reason": "no exporter knows it"}) == [
        "There is no graph: no exporter knows it."
    ]
    assert proof_sentences({}) == []


def test_each_call_is_a_whole_request() -> None:
    calls = model_page(STORED["described"]["penguins"], None)["calls"]
    assert [title.split(",")[0] for title, *_ in calls] == [
        "JSON", "CSV", "JSON lines", "Open Inference (KServe", "TensorFlow Serving", "MLflow"
    ]  # fmt: skip


class RefusesPredictions(Interceptor):
    may_block = False

    def before(self, context: RequestContext) -> None:
        if context.path.endswith("/predict"):
            raise RequestRefused(403, "no-key", "a key is missing")


@pytest.mark.slow
def test_the_plain_form_passes_the_interceptors_of_a_prediction() -> None:
    app = create_app(Settings(models_dir=MODELS), interceptors=[RefusesPredictions()])
    answer = app.test_client().post("/models/iris-two/try", data={"feature1": "5.1", "feature2": "3.5"})
    assert answer.status_code == 403
    assert "a key is missing" in answer.text


def test_the_most_important_inputs_come_first_and_a_loss_below_zero_has_no_bar() -> None:
    profile = {"importance": {"measure": "accuracy", "rows": 40, "inputs": {"a": 0.1, "b": 0.2, "c": -0.01}}}
    assert list(importance_of(profile)) == [
        ("b", "0.200", 100.0),
        ("a", "0.100", 50.0),
        ("c", "\N{MINUS SIGN}0.010", 0.0),
    ]
    assert list(importance_of({})) == []


def test_the_most_frequent_values_have_bars_with_their_share_of_all_rows() -> None:
    found = shares_of({"values": [["b", 30], [True, 10], *([number, 1] for number in range(20))]}, 100)
    assert found[:2] == (("b", "30.0 %", 100.0), ("true", "10.0 %", 33.3))
    assert len(found) == 8
