"""Train `diabetes`, which predicts the progression of the disease after a year.

    python examples/train_diabetes.py [OUT_DIR]

A regression on ten measurements in their natural units (years, kg/m², mm Hg …) with histogram gradient boosting, which
needs no scaling and takes a missing measurement as it comes.
"""

import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.datasets import load_diabetes
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_val_score

TARGET = "progression"


def load() -> pd.DataFrame:
    """Return all 442 patients: age, sex, bmi, bp, six blood serum measurements s1 to s6, and the progression."""
    return load_diabetes(as_frame=True, scaled=False).frame.rename(columns={"target": TARGET})


def build() -> HistGradientBoostingRegressor:
    """Return the model, unfitted. It has few and shallow trees: with 442 patients, more would learn noise."""
    return HistGradientBoostingRegressor(max_iter=60, max_leaf_nodes=6, learning_rate=0.08, random_state=0)


def main(out_dir: Path) -> None:
    """Train on the whole table, print the score, write the artifact and its sample."""
    patients = load()
    features, progression = patients.drop(columns=TARGET), patients[TARGET]

    model = build()
    r2 = cross_val_score(model, features, progression, cv=5).mean()
    model.fit(features, progression)

    out_dir.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out_dir / "diabetes.joblib", compress=3)
    patients.to_csv(out_dir / "diabetes.csv", index=False)
    print(f"diabetes: R² {r2:.2f} in cross-validation, written to {out_dir / 'diabetes.joblib'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
