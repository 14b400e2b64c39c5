import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("table.joblib")


class Table(BaseModel):
    instances: list[list[float]]


@app.post("/predict")
async def predict(table: Table):
    prediction = model.predict(table.instances)
    return {"prediction": prediction.tolist()}
