import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession("table.onnx", options, providers=["CPUExecutionProvider"])


class Table(BaseModel):
    instances: list[list[float]]


class Prediction(BaseModel):
    prediction: list[int]


@app.post("/predict")
async def predict(table: Table) -> Prediction:
    (label,) = session.run(["label"], {"features": np.array(table.instances, dtype=np.float32)})
    return Prediction(prediction=label.tolist())
