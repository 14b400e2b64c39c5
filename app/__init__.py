"""Retort serves scikit-learn models over HTTP; `app.factory.create_app` puts the rooms together."""
