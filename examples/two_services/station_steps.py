"""Ask two services at once for the state of a station: `RETORT_STEPS=station_steps`."""

import asyncio
import os

import aiohttp

from app import step


@step("station", needs={"station": "north"}, provides=("temperature", "parked"))
async def station(instances: list, session: aiohttp.ClientSession) -> None:
    """Ask both services for all instances at once."""

    async def ask(service: str, name: str) -> dict:
        async with session.get(f"{os.environ[service]}/stations/{name}", raise_for_status=True) as answer:
            return await answer.json(content_type=None)

    asked = [ask(service, one["station"]) for one in instances for service in ("WEATHER_URL", "PARKING_URL")]
    answers = await asyncio.gather(*asked)
    for instance, weather, parking in zip(instances, answers[::2], answers[1::2], strict=True):
        instance.update(temperature=weather["temperature"], parked=parking["parked"])
