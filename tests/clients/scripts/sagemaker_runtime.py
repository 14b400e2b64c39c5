"""Run in the venv of boto3: send requests to the given URL as `sagemaker-runtime`, and print the responses."""

import json
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

client = boto3.client(
    "sagemaker-runtime",
    endpoint_url=sys.argv[1],
    region_name="eu-central-1",
    aws_access_key_id="nobody",
    aws_secret_access_key="nothing",
    config=Config(retries={"max_attempts": 1}),
)


def invoke(body: str | bytes, endpoint: str = "iris-two", **more: str) -> list[object]:
    told = client.invoke_endpoint(EndpointName=endpoint, Body=body, **more)
    return [told["ContentType"], told["Body"].read().decode("latin-1"), told.get("CustomAttributes")]


JSON = {"ContentType": "application/json"}
told = {
    "json": invoke("[[5.1, 3.5], [6.3, 2.9]]", **JSON),
    "to csv": invoke("[[5.1, 3.5], [6.3, 2.9]]", Accept="text/csv", **JSON),
    "csv": invoke("5.1,3.5\n6.3,2.9\n", ContentType="text/csv", Accept="text/csv"),
    "csv with a header": invoke("feature2,feature1\n3.5,5.1\n", ContentType="text/csv"),
    "npy": invoke(bytes.fromhex(sys.argv[2]), ContentType="application/x-npy", Accept="application/json"),
    "attributes": invoke("[[5.1, 3.5]]", CustomAttributes="trace=1", **JSON),
}
for name, endpoint, body in (("unknown", "nope", "[[5.1, 3.5]]"), ("refused", "iris-two", '[["x", 3.5]]')):
    try:
        invoke(body, endpoint, **JSON)
    except ClientError as error:
        told[name] = [error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Message"]]
print(json.dumps(told))
