import joblib
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load("forest.joblib")


@app.post("/predict")
def predict():
    patient = request.get_json()
    prediction = model.predict([[patient[f"feature{n}"] for n in range(1, 31)]])
    return jsonify({"prediction": prediction.tolist()})
