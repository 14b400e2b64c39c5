import joblib
import numpy as np
import pandas as pd
import shap
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("penguins.joblib")
# Made once, because that takes longer than an explanation.
explainer = shap.TreeExplainer(model[-1])


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
    columns = model[:-1].transform(features)
    prediction = model[-1].predict(columns)
    explanation = explainer.shap_values(columns)
    return {
        "prediction": prediction.tolist(),
        "base": explainer.expected_value.tolist(),
        "columns": model[:-1].get_feature_names_out().tolist(),
        "contributions": explanation.tolist(),
    }
