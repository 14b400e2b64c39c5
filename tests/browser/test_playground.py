"""The playground and the pages of the models in Chromium, on the real service with the committed models."""

from __future__ import annotations

import base64
import csv
import datetime
import hashlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from playwright.sync_api import Browser, Page, Request, Route, expect

from tests.browser.chromium import WAIT_MS
from tests.browser.visit import AXE, Visit, visiting
from tests.web.stage import Carded, EveryKind, ManyModels, StoredCatalogue, make_app, serving

pytestmark = [pytest.mark.browser, pytest.mark.needs_program("chromium")]

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"
NAMES = ("penguins", "iris-two", "diabetes", "digits", "digits-image")
DISPATCH = (
    "([selector, type, text]) => { const place = document.querySelector(selector); const data = new DataTransfer(); "
)


@pytest.fixture(scope="module")
def stage() -> Iterator[str]:
    """Serve made-up models with hostile names."""
    with serving(make_app(StoredCatalogue())) as address:
        yield address


def record_in(request: Request) -> Any:
    """Return the record that the playground sent. It also asks for an explanation if the model has one."""
    body = request.post_data_json
    return body["instances"][0] if "instances" in body else body


def asks_for(record: dict[str, Any]) -> Callable[[Request], bool]:
    """Return whether a request of the playground has this record."""
    return lambda request: request.url.endswith("/predict") and record_in(request) == record


def opened(visit: Visit, name: str, query: str = "") -> Page:
    """Open the page of a model, and wait for its first answer."""
    with visit.page.expect_response(re.compile(rf"/models/{name}/predict$")):
        visit.page.goto(f"{visit.root}/models/{name}{query}")
    return visit.page


def recorded(name: str) -> list[dict[str, Any]]:
    manifest = json.loads((MODELS / name / "1" / "manifest.json").read_text("utf-8"))
    return [each["instance"] | {"->": each["outputs"]["prediction"]} for each in manifest["examples"]]


def headline(page: Page) -> Any:
    return page.locator("#answer .headline")


@pytest.mark.parametrize("name", NAMES)
def test_every_example_of_every_model_is_predicted_as_recorded(visit: Visit, name: str) -> None:
    page = opened(visit, name)
    for number, example in enumerate(recorded(name)):
        with page.expect_response(re.compile(r"/predict$")) as response:
            page.locator(f"[data-preset='{number}']").click()
        wanted = example.pop("->")
        assert response.value.status == 200
        assert record_in(response.value.request) == example
        assert response.value.json()["prediction"] == [pytest.approx(wanted) if isinstance(wanted, float) else wanted]
        shown = f"{wanted:.6g}" if isinstance(wanted, float) else str(wanted)
        expect(headline(page)).to_have_text(shown)


def test_a_slider_a_choice_and_a_number_change_the_answer(visit: Visit) -> None:
    page = opened(visit, "penguins")
    field = page.locator("[data-name=flipper_length_mm]")
    with page.expect_response(re.compile(r"/predict$")) as response:
        field.locator(".slider").fill("225")
    assert record_in(response.value.request)["flipper_length_mm"] == 225
    expect(field.locator("input[inputmode]")).to_have_value("225")
    with page.expect_response(re.compile(r"/predict$")) as response:
        page.get_by_label("Biscoe").check()
    assert record_in(response.value.request)["island"] == "Biscoe"
    with page.expect_response(re.compile(r"/predict$")) as response:
        page.get_by_label("body_mass_g", exact=True).fill("5700")
    assert record_in(response.value.request)["body_mass_g"] == 5700
    expect(page.locator("[data-name=body_mass_g] .slider")).to_have_value("5700")
    expect(page.locator("[data-timing]")).to_contain_text("in the model")
    first = page.locator(".bars .first")
    expect(first.locator(".name")).to_have_text(response.value.json()["prediction"][0])


def test_a_value_may_be_missing(visit: Visit) -> None:
    page = opened(visit, "penguins")
    with page.expect_response(re.compile(r"/predict$")) as response:
        page.get_by_role("button", name="body_mass_g is missing").click()
    assert record_in(response.value.request)["body_mass_g"] is None
    with page.expect_response(re.compile(r"/predict$")) as response:
        page.locator("[data-name=sex]").get_by_label("missing").check()
    assert record_in(response.value.request)["sex"] is None
    assert response.value.status == 200


def test_an_error_is_shown_beside_its_field_until_it_is_corrected(visit: Visit) -> None:
    page = opened(visit, "penguins")
    number = page.get_by_label("bill_length_mm", exact=True)
    visit.expected.append("422")  # Chromium logs each error response
    number.fill("long")
    expect(page.locator("[data-name=bill_length_mm] .message.bad")).to_have_text("must be a number, not a string")
    expect(number).to_have_attribute("aria-invalid", "true")
    expect(headline(page)).to_have_text("1 value is not acceptable")
    number.fill("41")
    expect(page.locator("[data-name=bill_length_mm] .message.bad")).to_be_hidden()
    expect(page.locator("[aria-invalid]")).to_have_count(0)
    expect(headline(page)).to_have_text("Adelie")


def test_a_number_is_marked_on_the_histogram_of_the_training_predictions(visit: Visit) -> None:
    page = opened(visit, "diabetes")
    expect(
        page.get_by_role("img", name="200.888 on the histogram of the predictions for the training sample")
    ).to_be_visible()
    expect(page.locator(".spread .own")).to_have_count(1)
    expect(page.locator("[data-name=bmi] .histogram rect").first).to_be_visible()


SLIDE = """slider => {
    for (let value = 20; value <= 40; value += 0.5) {
        slider.value = value;
        slider.dispatchEvent(new Event("input", {bubbles: true}));
    }
}"""


def test_answers_are_shown_while_the_slider_moves(visit: Visit) -> None:
    page = opened(visit, "diabetes")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    def moved(bmi: int) -> None:
        page.locator("[data-name=bmi] .slider").fill(str(bmi))

    def wait_for_held(count: int) -> None:
        for _ in range(WAIT_MS // 10):
            if len(held) >= count:
                return
            page.wait_for_timeout(10)
        raise AssertionError("it has not asked")

    page.route("**/models/diabetes/predict", hold)
    moved(25)
    wait_for_held(1)
    moved(40)
    with page.expect_response("**/models/diabetes/predict") as response:
        held[0].continue_()
    expect(headline(page)).to_have_text(f"{response.value.json()['prediction'][0]:.6g}")
    wait_for_held(2)
    assert [record_in(each.request)["bmi"] for each in held] == [25, 40]
    held[1].continue_()
    expect(page.locator("#answer.old")).to_have_count(0)


def test_the_last_of_many_changes_is_shown(visit: Visit) -> None:
    page = opened(visit, "diabetes")
    bodies: list[float] = []

    def note(request: Request) -> None:
        bodies.extend([record_in(request)["bmi"]] if request.method == "POST" else [])

    page.on("request", note)
    page.locator("[data-name=bmi] .slider").evaluate(SLIDE)
    expect(page.locator(".answer-panel.old")).to_have_count(0)
    expect(page.get_by_label("bmi", exact=True)).to_have_value("40")
    assert bodies[-1] == 40
    assert len(bodies) < 10  # one at a time, without the changes that came meanwhile
    record = {key: value for key, value in recorded("diabetes")[0].items() if key != "->"} | {"bmi": 40}
    wanted = page.request.post(f"{visit.root}/models/diabetes/predict", data=record).json()["prediction"][0]
    expect(headline(page)).to_have_text(f"{wanted:.6g}")


def test_the_state_is_in_the_address_and_can_be_shared(visit: Visit) -> None:
    page = opened(visit, "penguins")
    page.locator("[data-preset='2']").click()
    page.get_by_label("year", exact=True).fill("2009")
    expect(page).to_have_url(re.compile("year=2009"))
    assert parse_qs(urlsplit(page.url).query) == {".example": ["3"], "year": ["2009"]}
    other = opened(visit, "penguins", f"?{urlsplit(page.url).query}")
    expect(other.get_by_label("year", exact=True)).to_have_value("2009")
    expect(other.get_by_label("Biscoe")).to_be_checked()
    expect(headline(other)).to_have_text("Gentoo")


@pytest.mark.parametrize("query", ["", "?sex=female"])
def test_a_value_that_is_typed_while_the_page_loads_is_kept(visit: Visit, query: str) -> None:
    page = visit.page

    def typed(route: Route) -> None:
        page.get_by_label("year", exact=True).fill("2009")
        route.continue_()

    page.route("**/playground.js", typed)
    with page.expect_response(re.compile("/predict$")) as response:
        page.goto(f"{visit.root}/models/penguins{query}")
    assert record_in(response.value.request)["year"] == 2009
    expect(page).to_have_url(re.compile("year=2009"))
    expect(page.get_by_label("female", exact=True)).to_be_checked(checked=bool(query))


def test_the_back_button_brings_the_last_example_back(visit: Visit) -> None:
    page = opened(visit, "penguins")
    page.locator("[data-preset='2']").click()
    expect(headline(page)).to_have_text("Gentoo")
    page.go_back()
    expect(headline(page)).to_have_text("Adelie")
    expect(page.get_by_label("Torgersen")).to_be_checked()
    page.get_by_label("Pages").get_by_role("link", name="Models").click()
    page.go_back()
    expect(page.get_by_label("Torgersen")).to_be_checked()
    expect(page.locator("h1")).to_have_text("penguins")


@pytest.mark.needs_program("node")
@pytest.mark.needs_program("Rscript")
def test_each_snippet_is_copied_and_gives_the_answer(visit: Visit, tmp_path: Path) -> None:
    page = opened(visit, "penguins", "?island=Dream&bill_length_mm=")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    shell = page.locator("[data-code]")
    found = {}
    for language in ("curl", "Python", "JavaScript", "TypeScript", "R"):
        shell.get_by_role("tab", name=language, exact=True).click()
        shell.locator(".copy").click()
        expect(shell.locator(".copy")).to_have_text("Copied")
        found[language] = shell.locator("[data-copy]").text_content() or ""
        page.wait_for_function("async text => text === await navigator.clipboard.readText()", arg=found[language])
    plain = re.sub(r"interface Answer \{.*?\n\}\n| as Answer", "", found["TypeScript"], flags=re.DOTALL)
    assert "interface Answer" in found["TypeScript"]
    (tmp_path / "requests.py").write_text(REQUESTS)
    wanted = headline(page).inner_text()
    assert json.loads(run(["sh", "-c", found["curl"]], tmp_path))["prediction"] == [wanted]
    assert run([sys.executable, "-c", found["Python"]], tmp_path) == wanted
    assert 'island = "Dream",\n    bill_length_mm = NULL,' in found["R"]
    assert run(["Rscript", "-e", found["R"]], tmp_path) == f'[1] "{wanted}"'
    for code in (found["JavaScript"], plain):
        (tmp_path / "snippet.mjs").write_text(code)
        assert run(["node", "snippet.mjs"], tmp_path) == wanted


REQUESTS = '''
"""As much of requests as the snippet uses, where it is not installed."""
import json as coder
import urllib.request


class Answer:
    def __init__(self, content):
        self.content = content

    def raise_for_status(self): ...

    def json(self):
        return coder.loads(self.content)


def post(url, json, timeout):
    body = coder.dumps(json).encode()
    sent = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(sent, timeout=timeout) as answer:
        return Answer(answer.read())
'''


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("digit", "strokes"), [
    (1, [[(140, 30), (140, 250)]]),
    (0, [[(140, 35), (85, 80), (75, 140), (85, 205), (140, 245), (195, 205), (205, 140), (195, 80), (140, 35)]]),
])  # fmt: skip
def test_a_digit_is_drawn_and_recognised(visit: Visit, digit: int, strokes: list[list[tuple[int, int]]]) -> None:
    page = opened(visit, "digits-image")
    expect(page.locator("link[rel=modulepreload][href$='/images.js']")).to_have_count(1)
    page.get_by_role("button", name="Draw").click()
    canvas = page.locator("canvas")
    box = canvas.bounding_box()
    assert box is not None
    for stroke in strokes:
        points = [(box["x"] + x * box["width"] / 280, box["y"] + y * box["height"] / 280) for x, y in stroke]
        page.mouse.move(*points[0])
        page.mouse.down()
        for point in points[1:]:
            page.mouse.move(*point, steps=4)
        page.mouse.up()
    expect(headline(page)).to_have_text(str(digit))


def test_an_image_is_dropped(visit: Visit) -> None:
    page = opened(visit, "digits-image")
    (example,) = [each for each in recorded("digits-image") if each["->"] == 2][:1]
    with page.expect_response(re.compile(r"/predict$")) as response:
        page.evaluate(
            DISPATCH
            + "data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], 'two.png', {type}));"
            "place.dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true})); }",
            ["[data-image]", "image/png", example["image"]],
        )
    assert record_in(response.value.request) == {"image": example["image"]}
    expect(headline(page)).to_have_text("2")
    expect(page.locator(".easel img")).to_have_attribute("src", f"data:image/png;base64,{example['image']}")


def test_a_pasted_row_fills_the_fields(visit: Visit) -> None:
    page = opened(visit, "digits")
    row = [str(int(value)) for name, value in recorded("digits")[1].items() if name != "->"]
    with page.expect_response(re.compile(r"/predict$")) as response:
        page.evaluate(
            DISPATCH + "data.setData('text/plain', text);"
            "const options = {clipboardData: data, bubbles: true, cancelable: true};"
            "place.dispatchEvent(new ClipboardEvent('paste', options)); }",
            ["[data-name=pixel_0_0] input", "", "\t".join(row)],
        )
    assert list(record_in(response.value.request).values()) == [int(value) for value in row]


ROWS = 4_500


def penguins_csv(rows: int, wrong: tuple[int, ...] = ()) -> str:
    names = [name for name in recorded("penguins")[0] if name != "->"]
    lines = [",".join([*names, "a note"])]
    for number in range(rows):
        example = recorded_penguins[number % len(recorded_penguins)]
        cells = ["" if example[name] is None else str(example[name]) for name in names]
        if number in wrong:
            cells[0] = "Mars"
        lines.append(",".join([*cells, f'"row {number}, noted"']))
    return "\n".join(lines) + "\n"


recorded_penguins = recorded("penguins")


def choose(page: Page, name: str, content: str | bytes) -> None:
    body = content.encode() if isinstance(content, str) else content
    page.locator("[data-bulk] input[type=file]").set_input_files({"name": name, "mimeType": "text/csv", "buffer": body})


def test_many_rows_are_predicted_sorted_searched_and_downloaded(visit: Visit) -> None:
    page = opened(visit, "penguins")
    choose(page, "rows.csv", penguins_csv(ROWS))
    count = page.locator(".tools .count")
    expect(count).to_have_text("4,500 of 4,500 rows")
    predicted = page.locator(".sheet td.made")
    assert predicted.all_inner_texts()[:5] == [each["->"] for each in recorded_penguins]
    assert page.locator(".sheet tbody tr").count() < 100  # only the visible rows
    page.locator(".sheet").evaluate("sheet => { sheet.scrollTop = sheet.scrollHeight; }")
    expect(page.locator(".sheet tbody tr:last-child td").first).to_have_text("4500")
    page.get_by_label("Show").select_option("is Gentoo")
    expect(count).to_have_text(f"{sum(each['->'] == 'Gentoo' for each in recorded_penguins) * 900:,} of 4,500 rows")
    page.get_by_label("Show").select_option("")
    page.get_by_role("button", name="body_mass_g", exact=True).click()
    expect(page.locator("th[aria-sort=ascending]")).to_contain_text("body_mass_g")
    page.get_by_label("Search the rows").fill("row 4499,")
    expect(count).to_have_text("1 of 4,500 rows")
    with page.expect_download() as told:
        page.get_by_role("button", name="Download CSV").click()
    lines = told.value.path().read_text("utf-8").splitlines()
    assert told.value.suggested_filename == "penguins-predictions.csv"
    assert lines[0].endswith("a note,prediction,probability_Adelie,probability_Chinstrap,probability_Gentoo,error")
    assert '"row 4499, noted",' in lines[1]


def parquet_of_penguins(compression: str, **more: list[Any]) -> bytes:
    columns = {name: [each[name] for each in recorded_penguins] for name in recorded_penguins[0] if name != "->"}
    content = io.BytesIO()
    pq.write_table(pa.table(columns | more), content, compression=compression)
    return content.getvalue()


def downloaded_rows(page: Page) -> list[dict[str, str]]:
    with page.expect_download() as told:
        page.get_by_role("button", name="Download CSV").click()
    return list(csv.DictReader(told.value.path().read_text("utf-8").splitlines()))


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd"])
def test_a_parquet_file_is_predicted_and_shown_with_its_columns(visit: Visit, compression: str) -> None:
    page = opened(visit, "penguins")
    choose(page, "rows.parquet", parquet_of_penguins(compression))
    expect(page.locator(".sheet td.made")).to_have_text([example["->"] for example in recorded_penguins])
    for row, example in zip(downloaded_rows(page), recorded_penguins, strict=True):
        assert [row["island"], row["prediction"]] == [example["island"], example["->"]]
        assert (float(row["bill_length_mm"]) if row["bill_length_mm"] else None) == example["bill_length_mm"]


def test_columns_of_a_parquet_file_that_are_no_inputs_are_shown_and_not_sent(visit: Visit) -> None:
    page = opened(visit, "penguins")
    noon, count = datetime.datetime(2007, 11, 1, 12), len(recorded_penguins)
    more = {"day": [noon.date()], "noon": [noon], "in_utc": [noon.replace(tzinfo=datetime.UTC)], "ring": [2**60 + 1]}
    more |= {"marks": [[1, 2]], "nothing": [None], "is_male": [True], "ratio": [0.1]}
    choose(page, "rows.parquet", parquet_of_penguins("snappy", **{name: each * count for name, each in more.items()}))
    expect(page.locator(".sheet td.made")).to_have_text([example["->"] for example in recorded_penguins])
    shown = {
        "day": "2007-11-01", "noon": "2007-11-01T12:00:00.000", "in_utc": "2007-11-01T12:00:00.000Z",
        "ring": "1152921504606846977", "marks": "[1,2]", "nothing": "", "is_male": "true", "ratio": "0.1",
    }  # fmt: skip
    assert all(row.items() >= shown.items() for row in downloaded_rows(page))


def test_rows_with_several_targets_have_no_single_probability(visit: Visit) -> None:
    def targets(route: Route) -> None:
        probabilities = [[[0.9, 0.1], [0.2, 0.3, 0.5]]]
        route.fulfill(json={"prediction": [["a", "z"]], "probabilities": probabilities, "classes": [[0], [0]]})

    visit.page.route("**/models/iris-two/predict", targets)
    page = opened(visit, "iris-two")
    choose(page, "flowers.csv", "feature1,feature2\n5,3\n")
    expect(page.locator(".sheet td.made")).to_have_text("a, z")
    expect(page.locator(".sheet th")).to_have_text(["row", "prediction", "feature1", "feature2"])


def test_a_refused_row_of_a_parquet_file_is_named(visit: Visit) -> None:
    visit.expected.append("422")
    page = opened(visit, "penguins")
    rows = penguins_csv(len(recorded_penguins), wrong=(2,))
    table = pyarrow.csv.read_csv(io.BytesIO(rows.encode()))
    content = io.BytesIO()
    pq.write_table(table, content)
    choose(page, "rows.parquet", content.getvalue())
    expect(page.locator(".sheet td.wrong")).to_have_text(["island must be one of: Biscoe, Dream, Torgersen"])


def test_a_parquet_file_that_the_page_cannot_read_is_still_predicted(visit: Visit) -> None:
    page = opened(visit, "penguins")
    choose(page, "rows.parquet", parquet_of_penguins("brotli"))
    expect(page.locator(".sheet td.made")).to_have_text([example["->"] for example in recorded_penguins])
    expect(page.locator("[data-rows]")).to_contain_text("this page cannot: it reads columns without compression")


def test_refused_rows_say_why_and_the_others_are_predicted(visit: Visit) -> None:
    visit.expected.append("422")
    page = opened(visit, "penguins")
    choose(page, "rows.csv", penguins_csv(2_300, wrong=(3, 2_100)))
    expect(page.locator(".tools .count")).to_have_text("2,300 of 2,300 rows, 2 refused")
    page.get_by_label("Show").select_option("wrong")
    expect(page.locator(".sheet td.wrong")).to_have_text(["island must be one of: Biscoe, Dream, Torgersen"] * 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "the file has no rows below the line of names"),
        ("a,b\n1,2\n", "no column has the name of an input: island, bill_length_mm"),
        ('island,year\n"Dream,2007\n', "the quote that opens in line 2 is never closed"),
        ("island,year\nDream,2007,3\n", "row 1 has 3 cells, and the line of names has 2"),
        ("island,year\nDream,2007\n", "there is no column for bill_length_mm, bill_depth_mm, flipper_length_mm"),
    ],
    ids=["empty", "other-names", "open-quote", "uneven", "too-few-columns"],
)
def test_a_broken_csv_says_what_is_wrong(visit: Visit, content: str, sentence: str) -> None:
    visit.expected += ["400", "422"]
    page = opened(visit, "penguins")
    choose(page, "broken.csv", content)
    expect(page.locator("[data-rows]")).to_contain_text(sentence)


def test_a_model_that_is_unloaded_meanwhile_is_reported(visit: Visit) -> None:
    visit.expected.append("503")
    page = opened(visit, "iris-two")

    def unavailable(route: Route) -> None:
        detail = "the model 'iris-two' was unloaded"
        route.fulfill(status=503, headers={"Retry-After": "5"}, json={"status": 503, "detail": detail})

    page.route("**/models/iris-two/predict", unavailable)
    page.get_by_label("feature1", exact=True).fill("4")
    expect(headline(page)).to_have_text("the model 'iris-two' was unloaded")
    expect(page.locator("#answer")).to_contain_text("Try again in 5 seconds.")


def test_an_explanation_is_shown_as_the_api_gives_it(visit: Visit) -> None:
    page = opened(visit, "penguins")
    record = json.loads(page.locator("[data-playground]").get_attribute("data-model") or "")["examples"][0]["instance"]
    answer = page.request.post(
        f"{visit.root}/models/penguins/predict", data={"instances": [record], "outputs": ["explanation"]}
    ).json()
    found, position = answer["explanation"][0], answer["classes"].index("Adelie")
    added = {name: values[position] for name, values in found["contributions"].items()}
    why = page.get_by_role("region", name="Why")
    expect(why.locator("li code")).to_have_text(sorted(added, key=lambda name: -abs(added[name])))
    expect(why).to_contain_text("on average to > 99.9 %: what each input adds to the probability of Adelie.")


def test_approximate_contributions_are_marked(visit: Visit) -> None:
    why = opened(visit, "digits-image").get_by_role("region", name="Why")
    expect(why).to_contain_text("The contributions are approximate.")


def test_contributions_have_the_decimals_of_the_largest(visit: Visit) -> None:
    def noisy(route: Route) -> None:
        contributions = {"bmi": 12.34, "age": -0.449, "sex": -9.5e-18, "bp": 0.0}
        found = {"output": "prediction", "base": 100.0, "contributions": contributions, "exact": True}
        route.fulfill(json={"prediction": [111.891], "explanation": [found]})

    visit.page.route("**/models/diabetes/predict", noisy)
    why = opened(visit, "diabetes").get_by_role("region", name="Why")
    expect(why.locator(".signed")).to_have_text(["+12.3", "\N{MINUS SIGN}0.4", "0", "0"])


def test_an_average_of_rounding_errors_is_zero(visit: Visit) -> None:
    def centred(route: Route) -> None:
        found = {"output": "prediction", "base": -6.9e-16, "contributions": {"bmi": 1.63}, "exact": True}
        route.fulfill(json={"prediction": [1.63], "explanation": [found]})

    visit.page.route("**/models/diabetes/predict", centred)
    why = opened(visit, "diabetes").get_by_role("region", name="Why")
    expect(why).to_contain_text("From 0 on average to 1.63:")


def test_without_a_sample_no_average_is_claimed(visit: Visit) -> None:
    why = opened(visit, "iris-two").get_by_role("region", name="Why")
    expect(why).to_contain_text("for made-up examples to")
    expect(why).not_to_contain_text("on average")


def test_two_records_are_compared_with_the_effect_of_each_change(visit: Visit) -> None:
    page = opened(visit, "diabetes")
    what_if = page.get_by_role("region", name="What if")
    expect(what_if).to_be_hidden()
    before = float(headline(page).text_content() or "")
    page.get_by_role("button", name="What if").click()
    expect(what_if).to_contain_text("This record is kept.")
    page.get_by_label("bmi", exact=True).fill("21")
    expect(what_if.locator("tbody th").first).to_have_text("bmi")
    expect(what_if.locator("tbody td").nth(1)).to_have_text("21")
    now = float(headline(page).text_content() or "")
    expect(what_if).to_contain_text(f"The prediction goes from {before:g} to {now:g}.")
    added = [text.replace("\N{MINUS SIGN}", "-") for text in what_if.locator(".signed").all_text_contents()]
    assert sum(map(float, added)) == pytest.approx(now - before, abs=0.02 * abs(now - before))
    page.get_by_role("button", name="Stop comparing").click()
    expect(what_if).to_be_hidden()


@pytest.mark.parametrize("path", ["/", "/models", "/models/penguins"])
def test_the_first_response_of_a_page_has_its_styles(visit: Visit, path: str) -> None:
    """On a slow connection each further request takes half a second."""
    visit.expected.append("ERR_FAILED")
    visit.page.route("**/static/**", lambda route: route.abort())
    visit.page.goto(f"{visit.root}{path}")
    expect(visit.page.locator("header.bar")).to_have_css("display", "flex")
    if path != "/models":
        expect(visit.page.get_by_label("bill_length_mm", exact=True)).to_be_editable()


def test_without_an_explanation_there_is_no_chart(visit: Visit) -> None:
    def unlisted(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, body=answer.text().replace(",&#34;explanation&#34;", ""))

    visit.page.route(re.compile("/models/penguins$"), unlisted)
    page = opened(visit, "penguins")
    expect(headline(page)).to_have_text("Adelie")
    expect(page.locator("[data-why]")).to_be_hidden()


@pytest.mark.parametrize("name", NAMES)
def test_each_call_that_a_page_shows_is_answered(visit: Visit, name: str) -> None:
    page = opened(visit, name)
    for call in page.locator("#calls details").all():
        path = call.locator("summary code").text_content() or ""
        answer = page.request.post(
            f"{visit.root}{path.removeprefix('POST ')}",
            data=(call.locator("pre code").text_content() or "").encode(),
            headers={"Content-Type": call.locator("h3").text_content() or ""},
        )
        assert answer.status == 200, (path, answer.text())


@pytest.mark.parametrize("name", ["penguins", "digits-image"])
def test_the_plain_form_needs_no_script(chromium: Browser, root: str, name: str) -> None:
    for visit in visiting(chromium, root, java_script_enabled=False):
        visit.expected.append("422")
        page = visit.page
        page.goto(f"{root}/models/{name}")
        if name == "penguins":
            page.get_by_label("Dream").check()
            page.get_by_label("bill_length_mm", exact=True).fill("x")
            page.get_by_role("button", name="Predict").click()
            expect(page.locator("[data-name=bill_length_mm] .message.bad")).to_have_text(
                "must be a number, not a string"
            )
            page.get_by_label("bill_length_mm", exact=True).fill("51")
        else:
            content = base64.b64decode(recorded(name)[2]["image"])
            page.locator("[data-image] input[type=file]").set_input_files(
                {"name": "two.png", "mimeType": "image/png", "buffer": content}
            )
        page.get_by_role("button", name="Predict").click()
        expect(headline(page)).to_have_text("Chinstrap" if name == "penguins" else "2")
        if name == "penguins":
            expect(page.get_by_label("Dream")).to_be_checked()
        else:
            sent = recorded(name)[2]["image"]
            expect(page.locator(".easel img")).to_have_attribute("src", f"data:image/png;base64,{sent}")
            expect(page.locator("code.command")).to_contain_text(sent)


CHANGES: list[tuple[str, Callable[[Page], Any], Any]] = [
    ("member", lambda page: page.get_by_label("false").check(), False),
    ("comment", lambda page: page.get_by_label("comment").fill("it's\n<b>"), "it's\n<b>"),
    ("when", lambda page: page.get_by_label("when").fill("2025-02-03T04:05"), "2025-02-03T04:05"),
    ("table", lambda page: page.get_by_label("table").fill("1\t2\n3\t4.5"), [[1, 2], [3, 4.5]]),
    ("table", lambda page: page.get_by_label("table").fill("[[0, null], [1, 2]]"), [[0, None], [1, 2]]),
    ("city", lambda page: page.get_by_label("city").fill("Genf"), "Genf"),
    ("size", lambda page: page.get_by_label("3", exact=True).check(), 3),
    ("month", lambda page: page.get_by_label("month").select_option("2"), 2),
    ("visits", lambda page: page.get_by_label("visits", exact=True).fill("7"), 7),
    ("member", lambda page: page.locator("[data-name=member]").get_by_label("missing").check(), None),
    ("comment", lambda page: page.locator("[data-name=comment]").get_by_label("missing").check(), None),
    ("when", lambda page: page.get_by_label("when").fill(""), None),
    ("visits", lambda page: page.get_by_role("button", name="visits is missing").click(), None),
]


@pytest.fixture
def kinds(chromium: Browser) -> Iterator[Visit]:
    with serving(make_app(EveryKind())) as address:
        yield from visiting(chromium, address)


def test_every_kind_of_input_is_filled_changed_and_missing(kinds: Visit) -> None:
    page, sent = kinds.page, EveryKind.INSTANCE | {"when": "2024-01-31T10:30"}
    with page.expect_response(re.compile("/predict$")) as response:
        page.goto(f"{kinds.root}/models/iris-two")
    assert record_in(response.value.request) == sent
    for name, change, value in CHANGES:
        sent |= {name: value}
        with page.expect_request(asks_for(sent)):
            change(page)  # in several steps, each of which may send a request
    expect(page).to_have_url(re.compile("missing=comment.*visits=$"))
    with page.expect_response(re.compile("/predict$")) as response:
        page.reload()
    assert record_in(response.value.request) == sent


def test_hostile_names_are_only_text(chromium: Browser, stage: str) -> None:
    for visit in visiting(chromium, stage):
        page = opened(visit, "reviews")
        name = 'it\'s <text> & "more"'
        expect(page.get_by_label(name)).to_be_visible()
        with page.expect_response(re.compile("/predict$")) as response:
            page.get_by_label(name).fill("</textarea><script>alert(1)</script>")
        assert record_in(response.value.request)[name] == "</textarea><script>alert(1)</script>"
        expect(page).to_have_url(re.compile(r"\?.*script"))
        page.reload()
        expect(page.get_by_label(name)).to_have_value("</textarea><script>alert(1)</script>")


def test_a_search_finds_one_model_of_many(chromium: Browser) -> None:
    with serving(make_app(ManyModels())) as many:
        for visit in visiting(chromium, many):
            page = visit.page
            page.goto(f"{many}/models")
            cards = page.locator("article:visible")
            expect(cards).to_have_count(200)
            page.get_by_label("Search the models").fill("FLOWERS-17 classifier")
            expect(cards).to_have_count(10)
            page.get_by_label("Search the models").fill("flowers-177")
            expect(cards).to_have_count(1)
            page.get_by_label("Search the models").fill("nothing of that")
            expect(page.get_by_text("No model matches.")).to_be_visible()


def test_the_authors_card_fits_a_phone(chromium: Browser) -> None:
    with serving(make_app(Carded())) as address:
        for visit in visiting(chromium, address, viewport={"width": 360, "height": 900}):
            opened(visit, "iris-two")
            assert visit.violations() == []
            assert not visit.overflows


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_axe_finds_nothing(chromium: Browser, root: str, width: int, scheme: str) -> None:
    for visit in visiting(chromium, root, viewport={"width": width, "height": 900}, color_scheme=scheme):
        page = visit.page
        visit.expected.append("404")
        models = [f"/models/{name}" for name in NAMES]
        for path in ("/", "/models", *models, "/problems", "/problems/invalid-instances", "/models/pinguins"):
            page.goto(f"{root}{path}")
            assert visit.violations() == [], path
            assert not visit.overflows, path


def test_axe_finds_nothing_while_an_answer_is_awaited(visit: Visit) -> None:
    page = opened(visit, "penguins")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/models/penguins/predict", hold)
    page.get_by_label("bill_length_mm").first.fill("41")
    expect(page.locator("#answer.old .fill").first).to_have_css("opacity", "0.4")
    assert visit.violations() == []
    held[0].continue_()
    expect(page.locator("#answer.old")).to_have_count(0)


def test_the_first_view_is_small(visit: Visit) -> None:
    sizes: dict[str, int] = {}
    page = visit.page
    page.on("response", lambda answer: sizes.update({answer.url: len(answer.body())}))
    sent = page.context.new_cdp_session(page)
    sent.send("Network.enable")
    received: list[float] = []
    sent.on("Network.loadingFinished", lambda event: received.append(event["encodedDataLength"]))
    opened(visit, "penguins")
    page.wait_for_load_state("networkidle")
    assert 5_000 < sum(received) <= 150_000


def test_axe_is_the_released_file() -> None:
    digest = hashlib.sha256(AXE.read_bytes()).hexdigest()
    assert digest in AXE.with_name("README.md").read_text("utf-8")
