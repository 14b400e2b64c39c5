"""Retort serves scikit-learn models over HTTP. `app.factory.create_app` builds the application."""

import os

__version__ = "0.1.0"

# Without this variable, importing ONNX Runtime starts a thread that sends usage data, and writes files below $HOME.
# Every process of ours imports this package before ONNX Runtime, and child processes inherit the variable.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
