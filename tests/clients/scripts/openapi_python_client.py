"""Predict with the client that openapi-python-client generated in a folder, and print the answers."""

import json
import sys

from retort_client import Client
from retort_client.api.penguins import predict_penguins
from retort_client.models import PenguinsInstances, PenguinsPrediction, PenguinsRecord, Problem

url, records = sys.argv[1], json.loads(sys.argv[2])
typed = [PenguinsRecord.from_dict(record) for record in records]
with Client(base_url=url) as client:
    one = predict_penguins.sync(client=client, body=typed[0])
    many = predict_penguins.sync(client=client, body=PenguinsInstances(instances=typed))
    rows = predict_penguins.sync(client=client, body=[list(record.values()) for record in records])
    typed[1].year = "last year"
    refused = predict_penguins.sync_detailed(client=client, body=PenguinsInstances(instances=typed))
assert isinstance(one, PenguinsPrediction)
assert isinstance(many, PenguinsPrediction)
assert isinstance(rows, PenguinsPrediction)
assert isinstance(refused.parsed, Problem)
(error,) = refused.parsed.errors
told = {
    "one": one.to_dict(),
    "many": many.to_dict(),
    "rows": rows.prediction,
    "refused": [int(refused.status_code), refused.parsed.detail, error["pointer"]],
}
print(json.dumps(told))
