"""Asks two services at once what a station is like now: `RETORT_STEPS=station_steps`."""

import asyncio
import os

import httpx

from app.core.steps import step


@step("station", needs={"station": "north"}, provides=("temperature", "parked"))
async def station(instances: list, client: httpx.AsyncClient) -> None:
    """Both services for every instance, all at once."""

    async def ask(service: str, name: str) -> dict:
        answer = await client.get(f"{os.environ[service]}/stations/{name}")
        return answer.raise_for_status().json()

    asked = [ask(service, one["station"]) for one in instances for service in ("WEATHER_URL", "PARKING_URL")]
    answers = await asyncio.gather(*asked)
    for instance, weather, parking in zip(instances, answers[::2], answers[1::2], strict=True):
        instance.update(temperature=weather["temperature"], parked=parking["parked"])
