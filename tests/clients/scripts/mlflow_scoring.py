"""Run in the venv of MLflow: send requests to the server at the given host and port, and print the responses."""

import json
import sys

import numpy as np
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

host, port, records = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
client = ScoringServerClient(host, port)
client.wait_server_ready(timeout=10)

frame = pd.DataFrame(records)
with_nan = frame.copy()
with_nan["bill_length_mm"] = with_nan["bill_length_mm"].astype(float)
with_nan.loc[0, "bill_length_mm"] = np.nan
told = {
    "version": client.get_version(),
    "frame": client.invoke(frame)["predictions"],
    "in another order": client.invoke(frame[frame.columns[::-1]])["predictions"],
    "nan": client.invoke(with_nan, params={"k": 1})["predictions"],
    "as frame": client.invoke(frame).get_predictions().shape,
    "rows": client.invoke(records)["predictions"],
}
try:
    client.invoke(frame.assign(island="Mars"))
except Exception as error:  # noqa: BLE001 (the client raises nothing narrower)
    told["refused"] = str(error)
print(json.dumps(told))
