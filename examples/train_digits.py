"""Train `digits`, which recognizes a digit in 8 by 8 pixels.

    python examples/train_digits.py [OUT_DIR]

Sixty-four brightnesses from 0 to 16, `pixel_0_0` (top left) to `pixel_7_7`, and one of ten digits as the answer.
"""

import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

TARGET = "digit"


def load() -> pd.DataFrame:
    """Return all 1,797 images, one in each row, and their digits."""
    return load_digits(as_frame=True).frame.rename(columns={"target": TARGET})


def build() -> Pipeline:
    """Return the model, unfitted. C is small, because neighbouring pixels are similar and their weights need a
    penalty."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))


def main(out_dir: Path) -> None:
    """Train on the whole table, print the score, write the artifact and its sample."""
    images = load()
    pixels, digits = images.drop(columns=TARGET), images[TARGET]

    model = build()
    accuracy = cross_val_score(model, pixels, digits, cv=5).mean()
    model.fit(pixels, digits)

    out_dir.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out_dir / "digits.joblib", compress=3)
    images.to_csv(out_dir / "digits.csv", index=False)
    print(f"digits: {accuracy:.1%} right in cross-validation, written to {out_dir / 'digits.joblib'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
