"""Send requests to the server at `argv[1]` (a URL) with KServe's InferenceRESTClient, and print the responses."""

import asyncio
import json
import sys

import httpx
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

ROWS = np.array([[5.1, 3.5], [6.0, 2.2], [7.0, 3.0]])


def tensor(name, array, datatype, binary):
    made = InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


async def main(root):
    said = {}
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    said["live"], said["ready"] = await client.is_server_live(root), await client.is_server_ready(root)
    said["model_ready"] = await client.is_model_ready(root, "iris-two")
    said["no_model_ready"] = await client.is_model_ready(root, "nope")
    for binary in (False, True):
        for wanted in (None, "prediction", "output-0", "predict"):
            outputs = None if wanted is None else [RequestedOutput(wanted, {"binary_data": binary})]
            request = InferRequest(
                "iris-two", [tensor("input-0", ROWS, "FP64", binary)], "abc", request_outputs=outputs
            )
            answer = await client.infer(root, request, model_name="iris-two")
            first = answer.outputs[0]
            said[f"{binary} {wanted}"] = [answer.id, answer.model_name, first.name, first.as_numpy().tolist()]
    columns = [tensor(f"feature{i + 1}", ROWS[:, i].astype("float32"), "FP32", True) for i in range(2)]
    answer = await client.infer(root, InferRequest("iris-two", columns), model_name="iris-two")
    said["columns"] = answer.outputs[0].as_numpy().tolist()
    said["dict"] = (
        await client.infer(
            root,
            {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [[5.1, 3.5]]}]},
            model_name="iris-two",
        )
    ).to_dict()
    said["errors"] = []
    for model, width in (("nope", 2), ("iris-two", 1)):
        try:
            request = InferRequest(model, [tensor("x", ROWS[:, :width], "FP64", True)])
            await client.infer(root, request, model_name=model)
        except httpx.HTTPStatusError as error:
            said["errors"].append([error.response.status_code, str(error)])
    await client.close()
    print(json.dumps(said))


asyncio.run(main(sys.argv[1]))
