"""Retort serves scikit-learn models over HTTP; `app.factory.create_app` puts the rooms together into an application."""

import os

__version__ = "0.1.0"

# When it is imported, ONNX Runtime starts a thread that sends usage data, and writes files below $HOME, unless this is
# set. Every process of ours imports this package before ONNX Runtime, and hands the variable on to its children.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
