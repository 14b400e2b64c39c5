import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("digits.joblib")


class Image(BaseModel):
    pixels: list[float]


@app.post("/predict")
async def predict(image: Image):
    prediction = model.predict([image.pixels])
    return {"prediction": prediction.tolist()}
