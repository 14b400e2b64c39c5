"""One request from start to end; knows neither HTTP nor scikit-learn."""
