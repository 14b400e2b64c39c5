"""The step of the case `waiting`: one feature comes from another service."""

import os

import aiohttp

from app import step


@step("enrich", needs={"customer_id": 7}, provides=("feature1",))
async def enrich(instances, session: aiohttp.ClientSession):
    for instance in instances:
        async with session.get(f"{os.environ['UPSTREAM']}/customers/{instance['customer_id']}") as answer:
            instance["feature1"] = (await answer.json())["feature1"]
