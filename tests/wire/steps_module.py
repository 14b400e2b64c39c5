"""A user's module of steps, which `RETORT_STEPS` names in the tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import httpx
from sqlalchemy import text
from sqlalchemy.orm import Session

from app.core.models import Models
from app.core.steps import Refused, factory, step
from app.core.steps.services import Caller
from app.telemetry import request_id

LENGTHS = {1: 5.1, 2: 6.7}
SEEN: list[Any] = []


class Ledger:
    well = True


@factory(per="process", check=lambda ledger: None if ledger.well else 1 / 0)
def ledger() -> Iterator[Ledger]:
    SEEN.append("opened")
    yield Ledger()
    SEEN.append("closed")


@factory()
def lines(ledger: Ledger) -> list[Ledger]:
    return [ledger]


@step("enrich", needs={"customer_id": 1}, provides=("feature1",))
def enrich(instances: list[Any], ledgers: list[Ledger], caller: Caller) -> None:
    SEEN.append((caller.address, caller.request_id, len(ledgers)))
    wrong = [
        (n, "customer_id", "is no customer") for n, one in enumerate(instances) if one["customer_id"] not in LENGTHS
    ]
    if wrong:
        raise Refused(*wrong)
    for one in instances:
        one["feature1"] = LENGTHS[one["customer_id"]]


@step("mistaken")
def mistaken(instances: list[Any]) -> None:
    raise Refused((0, "weather", "is wrong"), (9, "feature1", "is wrong"), (-1, "7", "is wrong"))


@step("enrich_soon", needs={"customer_id": int}, provides=("feature1",))
async def enrich_soon(instances: list[Any], client: httpx.AsyncClient) -> list[Any]:
    async def one(instance: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0)
        SEEN.append(request_id())
        return {**instance, "feature1": LENGTHS[instance["customer_id"]]}

    return list(await asyncio.gather(*map(one, instances)))


@step("look_up", needs={"customer_id": int}, provides=("feature1",))
def look_up(instances: list[Any], session: Session) -> None:
    for one in instances:
        one["feature1"] = session.execute(text("select 4.0 + :id"), {"id": one["customer_id"]}).scalar()


@step("score", provides=("score",))
def score(outputs: dict[str, Any], instances: list[Any]) -> dict[str, Any]:
    return {
        **outputs,
        "score": [
            {"of": one["feature1"], "sure": max(p)} for one, p in zip(instances, outputs["probabilities"], strict=True)
        ],
    }


@step("measure", provides=("whole", "real", "sure", "mixed"))
def measure(outputs: dict[str, Any]) -> dict[str, Any]:
    return {**outputs, "whole": [1, 2], "real": [1.0, 2.5], "sure": [True, False], "mixed": [1, 2.5]}


@step("second_opinion", provides=("other",))
async def second_opinion(outputs: dict[str, Any], instances: list[Any], models: Models) -> dict[str, Any]:
    rows = [[one["feature1"], one["feature2"]] for one in instances]
    prediction = await models.apredict("plain", rows, outputs=["prediction"])
    return {**outputs, "other": prediction["prediction"]}


@step("asks_itself")
def asks_itself(outputs: dict[str, Any], models: Models) -> None:
    models.predict("itself", [[1.0, 2.0]])


@step("log")
def log(instances: list[Any]) -> None:
    SEEN.append(len(instances))


@step("where")
def where(instances: list[Any]) -> None:
    SEEN.append(threading.current_thread().name)


@step("wrong_value", provides=("feature1",))
def wrong_value(instances: list[Any]) -> None:
    for one in instances:
        one["feature1"] = "secret word"


@step("short", provides=("feature1",))
def short(instances: list[Any]) -> list[Any]:
    return []


@step("raises")
def raises(instances: list[Any]) -> None:
    raise KeyError("/secret/path")


@step("timed_out")
async def timed_out(instances: list[Any]) -> None:
    raise httpx.ReadTimeout("it did not answer")


@step("drops")
def drops(outputs: dict[str, Any]) -> dict[str, Any]:
    return {}


@step("greedy")
def greedy(instances: list[Any], number: complex) -> None: ...


@step("stray", provides=("weather",))
def stray(instances: list[Any]) -> None: ...


@step("misplaced")
def misplaced(outputs: dict[str, Any]) -> None: ...


@step("impatient")
def impatient(instances: list[Any], client: httpx.AsyncClient) -> None: ...
