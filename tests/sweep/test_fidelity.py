"""Each estimator, packed and served, gives the notebook's answers over HTTP."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from flask.testing import FlaskClient

from app import create_app
from app.errors import PackingRefused
from app.settings import Settings
from tests.sweep.packed import Packed

from . import pipelines
from .cases import RECIPES, Case, case, members
from .compare import differences, notebook, rows
from .report import Line

# Packing ignores warnings in its own process; here it runs in this process, for speed.
pytestmark = [pytest.mark.sweep, pytest.mark.early, pytest.mark.filterwarnings("ignore")]


def url(asked: Case) -> str:
    return f"/models/{asked.name}"


def test_no_estimator_is_left_out() -> None:
    """Each member of the families has a case, and no two cases share a name."""
    names = [name for _, name, _ in members()]
    assert len(names) == len(set(names))
    assert set(names) <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_served_equals_notebook(name: str, packed: Packed, report: Callable[[Line], None]) -> None:
    """Answers over HTTP equal the notebook's; packing refuses the others, for a listed reason."""
    asked = case(name)
    served, found, proof = False, [], {}
    try:
        if asked.unservable:
            refused(asked, packed)
        else:
            models = packed(asked)
            for runtime in ("auto", "artifact"):
                client = serve(models, runtime)
                served, proof = True, client.get(url(asked)).json["proof"]
                found += [f"{runtime}: {difference}" for difference in compare(asked, client)]
    except BaseException as error:
        found = [str(error).splitlines()[0] if str(error) else type(error).__name__]
        raise
    finally:
        note = found[0][:160] if found else asked.unservable or ("with a sample" if asked.sample is not None else "")
        report(Line(name, asked.family, served, served and not found, note, proof))
    assert not found


@pytest.mark.parametrize("recipe", pipelines.RECIPES, ids=lambda recipe: recipe.__name__)
def test_a_sample_changes_no_answer(recipe: Callable[[], pipelines.Recipe], packed: Packed) -> None:
    """A pipeline answers the same if its training rows are given as the sample."""
    asked, features = case(recipe.__name__), recipe().table.seen[0]
    if asked.unservable:
        return
    sample = features if isinstance(features, pd.DataFrame) else pd.DataFrame(features)
    asked = replace(asked, sample=sample)
    assert compare(asked, serve(packed(asked))) == []


def refused(asked: Case, packed: Packed) -> None:
    """Check that packing refuses it in one sentence."""
    with pytest.raises(PackingRefused) as refusal:
        packed(asked)
    assert refusal.value.detail
    assert "\n" not in refusal.value.detail


def serve(models: Path, runtime: str = "auto") -> FlaskClient:
    """Return a client of a server with this model alone, loaded and proven, as a graph if it has one."""
    client = create_app(Settings(models_dir=models, runtime=runtime)).test_client()
    ready = client.get("/readyz")
    assert ready.status_code == 200, ready.text
    return client


def compare(asked: Case, client: FlaskClient) -> list[str]:
    """Return the differences from the notebook's answers: for many rows, many records, and single records."""
    inputs = client.get(url(asked)).json["signature"]["inputs"]
    names, whole = [known["name"] for known in inputs], inputs[0]["kind"] == "record" if inputs else False
    values = rows(asked.frame)
    records = [row[0] if whole else dict(zip(names, row, strict=True)) for row in values]
    expected = notebook(asked.estimator, asked.frame)
    found = differences(expected, post(client, asked, {"instances": values}), "rows: ")
    found += differences(expected, post(client, asked, {"instances": records}), "records: ")
    for position in (0, len(records) - 1):
        alone = notebook(asked.estimator, asked.frame[position : position + 1])
        found += differences(alone, post(client, asked, records[position]), f"record {position}: ")
    return found


def post(client: FlaskClient, asked: Case, body: Any) -> Any:
    """Return the answer to this body."""
    content = json.dumps(body, allow_nan=False)
    answer = client.post(f"{url(asked)}/predict", data=content, content_type="application/json")
    assert answer.status_code == 200, answer.text
    return answer.json
