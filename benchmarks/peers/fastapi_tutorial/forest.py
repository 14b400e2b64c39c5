import joblib
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
model = joblib.load("forest.joblib")


class Patient(BaseModel):
    feature1: float
    feature2: float
    feature3: float
    feature4: float
    feature5: float
    feature6: float
    feature7: float
    feature8: float
    feature9: float
    feature10: float
    feature11: float
    feature12: float
    feature13: float
    feature14: float
    feature15: float
    feature16: float
    feature17: float
    feature18: float
    feature19: float
    feature20: float
    feature21: float
    feature22: float
    feature23: float
    feature24: float
    feature25: float
    feature26: float
    feature27: float
    feature28: float
    feature29: float
    feature30: float


@app.post("/predict")
async def predict(patient: Patient):
    prediction = model.predict(
        [
            [
                patient.feature1,
                patient.feature2,
                patient.feature3,
                patient.feature4,
                patient.feature5,
                patient.feature6,
                patient.feature7,
                patient.feature8,
                patient.feature9,
                patient.feature10,
                patient.feature11,
                patient.feature12,
                patient.feature13,
                patient.feature14,
                patient.feature15,
                patient.feature16,
                patient.feature17,
                patient.feature18,
                patient.feature19,
                patient.feature20,
                patient.feature21,
                patient.feature22,
                patient.feature23,
                patient.feature24,
                patient.feature25,
                patient.feature26,
                patient.feature27,
                patient.feature28,
                patient.feature29,
                patient.feature30,
            ]
        ]
    )
    return {"prediction": prediction.tolist()}
