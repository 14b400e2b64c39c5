"""Train `iris-two`, the smallest model, as in many tutorials.

    python examples/train_iris_two.py [OUT_DIR]

The model takes two numbers and predicts one of three classes. It is trained on a plain array without feature names, so
they are served as `feature1` (sepal length) and `feature2` (sepal width). It needs no sample: the artifact is enough.
"""

import sys
from pathlib import Path

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score


def main(out_dir: Path) -> None:
    """Train on all flowers, print the score, write the artifact."""
    features, species = load_iris(return_X_y=True)
    sepals = features[:, :2]

    model = LogisticRegression(max_iter=500)
    accuracy = cross_val_score(model, sepals, species, cv=5).mean()
    model.fit(sepals, species)

    out_dir.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out_dir / "iris-two.joblib", compress=3)
    print(f"iris-two: {accuracy:.1%} right in cross-validation, written to {out_dir / 'iris-two.joblib'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
