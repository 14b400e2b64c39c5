import joblib
import numpy as np
import pandas as pd
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("penguins.joblib")


class Penguin(BaseModel):
    island: str
    bill_length_mm: float | None = None
    bill_depth_mm: float | None = None
    flipper_length_mm: float | None = None
    body_mass_g: float | None = None
    sex: str | None = None
    year: int


@app.post("/predict")
async def predict(penguin: Penguin):
    # The imputers were fitted on NaN, not on None.
    features = pd.DataFrame([penguin.model_dump()]).fillna(np.nan)
    prediction = model.predict(features)
    return {"prediction": prediction.tolist()}
