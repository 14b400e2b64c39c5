import joblib
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load("linear.joblib")


@app.post("/predict")
def predict():
    iris = request.get_json()
    prediction = model.predict([[iris["feature1"], iris["feature2"]]])
    return jsonify({"prediction": prediction.tolist()})
