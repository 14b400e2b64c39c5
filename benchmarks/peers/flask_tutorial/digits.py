import joblib
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load("digits.joblib")


@app.post("/predict")
def predict():
    image = request.get_json()
    prediction = model.predict([image["pixels"]])
    return jsonify({"prediction": prediction.tolist()})
