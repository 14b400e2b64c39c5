"""Predict with the client that openapi-generator's `python` generated in a folder, and print the answers."""

import json
import sys

from openapi_client import ApiClient, Configuration, PenguinsApi
from openapi_client.exceptions import UnprocessableEntityException
from openapi_client.models import PenguinsInstance, PenguinsInstances, PenguinsRecord, PredictPenguinsRequest, Problem

url, records = sys.argv[1], json.loads(sys.argv[2])
typed = [PenguinsRecord.from_dict(record) for record in records]
with ApiClient(Configuration(host=url)) as client:
    api = PenguinsApi(client)

    def predict(body):
        return api.predict_penguins(PredictPenguinsRequest(body))

    one = predict(typed[0])
    many = predict(PenguinsInstances(instances=[PenguinsInstance(record) for record in typed]))
    rows = predict([PenguinsInstance(list(record.values())) for record in records])
    try:
        predict([PenguinsInstance([*list(records[0].values())[:-1], "last year"])])
    except UnprocessableEntityException as refused:
        problem = refused.data
assert isinstance(problem, Problem)
told = {
    "one": one.to_dict(),
    "many": many.to_dict(),
    "rows": rows.prediction,
    "refused": [problem.status, problem.detail, problem.errors[0]["pointer"]],
}
print(json.dumps(told))
