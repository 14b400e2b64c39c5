import joblib
import numpy as np
import pandas as pd
from flask import Flask, jsonify, request

app = Flask(__name__)
model = joblib.load("penguins.joblib")


@app.post("/predict")
def predict():
    # The imputers were fitted on NaN, not on None.
    features = pd.DataFrame([request.get_json()]).fillna(np.nan)
    prediction = model.predict(features)
    return jsonify({"prediction": prediction.tolist()})
