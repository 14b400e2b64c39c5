import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("big.joblib")


class Measurements(BaseModel):
    instances: list[list[float]]


@app.post("/predict")
async def predict(measurements: Measurements):
    prediction = model.predict(measurements.instances)
    return {"prediction": prediction.tolist()}
