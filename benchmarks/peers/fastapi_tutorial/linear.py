import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("linear.joblib")


class Iris(BaseModel):
    feature1: float
    feature2: float


@app.post("/predict")
async def predict(iris: Iris):
    prediction = model.predict([[iris.feature1, iris.feature2]])
    return {"prediction": prediction.tolist()}
