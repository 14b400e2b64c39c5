import numpy as np
import onnxruntime as ort
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession("digits.onnx", options, providers=["CPUExecutionProvider"])


class Image(BaseModel):
    pixels: list[float]


class Prediction(BaseModel):
    prediction: list[int]


@app.post("/predict")
async def predict(image: Image) -> Prediction:
    (label,) = session.run(["label"], {"features": np.array([image.pixels], dtype=np.float32)})
    return Prediction(prediction=label.tolist())
