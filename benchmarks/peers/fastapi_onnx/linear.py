import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession("linear.onnx", options, providers=["CPUExecutionProvider"])


class Iris(BaseModel):
    feature1: float
    feature2: float


class Prediction(BaseModel):
    prediction: list[int]


@app.post("/predict")
async def predict(iris: Iris) -> Prediction:
    features = np.array([[iris.feature1, iris.feature2]], dtype=np.float32)
    (label,) = session.run(["label"], {"features": features})
    return Prediction(prediction=label.tolist())
