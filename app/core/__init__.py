"""Serve one prediction from parsing to encoding, without HTTP and without scikit-learn."""
