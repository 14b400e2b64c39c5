"""Run in the venv of MLflow: send a frame with timestamps, NaN and NaT, and print the responses."""

import json
import sys

import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

host, port, records = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
client = ScoringServerClient(host, port)
client.wait_server_ready(timeout=10)

frame = pd.DataFrame(records)
frame["when"] = pd.to_datetime(frame["when"])
east = frame.assign(when=frame["when"].dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo"))
told = {"frame": client.invoke(frame)["predictions"], "in another zone": client.invoke(east)["predictions"]}
try:
    client.invoke(frame.assign(when="noon"))
except Exception as error:  # noqa: BLE001 (the client raises nothing narrower)
    told["refused"] = str(error)
print(json.dumps(told))
