"""Run in the venv of kserve: send requests of KServe's v1 to the server at the given URL, and print the responses."""

import asyncio
import json
import sys

import httpx
from kserve import InferenceRESTClient, RESTConfig

ROWS = [[5.1, 3.5], [6.3, 2.9]]


async def main(url: str) -> None:
    client = InferenceRESTClient(RESTConfig(protocol="v1"))
    told = {
        "live": await client.is_server_live(url),
        "ready": await client.is_model_ready(url, "iris-two"),
        "instances": await client.infer(url, {"instances": ROWS}, model_name="iris-two"),
        "probabilities": await client.infer(
            url, {"instances": ROWS, "signature_name": "probabilities"}, model_name="iris-two"
        ),
        "inputs": await client.infer(url, {"inputs": ROWS}, model_name="iris-two"),
    }
    for name, model, body in (
        ("unknown", "nope", {"instances": ROWS}),
        ("refused", "iris-two", {"instances": [["x", 1]]}),
    ):
        try:
            await client.infer(url, body, model_name=model)
        except httpx.HTTPStatusError as error:
            told[name] = [error.response.status_code, error.response.json()]
    await client.close()
    print(json.dumps(told))


asyncio.run(main(sys.argv[1]))
