"""The step of the case `waiting`: one feature comes from another service."""

import os

import httpx

from app.core.steps import step


@step("enrich", needs={"customer_id": 7}, provides=("feature1",))
async def enrich(instances, client: httpx.AsyncClient):
    for instance in instances:
        answer = await client.get(f"{os.environ['UPSTREAM']}/customers/{instance['customer_id']}")
        instance["feature1"] = answer.json()["feature1"]
