import joblib
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load("table.joblib")


@app.post("/predict")
def predict():
    table = request.get_json()
    prediction = model.predict(table["instances"])
    return jsonify({"prediction": prediction.tolist()})
