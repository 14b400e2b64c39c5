"""Train `digits-image`, which recognizes a digit in a picture.

    python examples/train_digits_image.py [OUT_DIR]

The model is fitted on a matrix without names; its 64 columns are the pixels of an 8 by 8 image, from 0 to 16.
`digits-image.json` beside the artifact declares them as one image: 0 to 255 is divided by 15.9375.
"""

import json
import sys
from pathlib import Path

import joblib
import pandas as pd
import train_digits
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score

INPUTS = [{"name": "image", "kind": "image", "mode": "L", "size": [8, 8], "divisor": 15.9375}]


def main(out_dir: Path) -> None:
    """Train on all images, print the score, write the artifact, its sample and its inputs."""
    pixels, digits = load_digits(return_X_y=True)

    model = train_digits.build()
    accuracy = cross_val_score(model, pixels, digits, cv=5).mean()
    model.fit(pixels, digits)

    out_dir.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out_dir / "digits-image.joblib", compress=3)
    pd.DataFrame(pixels).to_csv(out_dir / "digits-image.csv", index=False)
    (out_dir / "digits-image.json").write_text(json.dumps(INPUTS), encoding="utf-8")
    print(f"digits-image: {accuracy:.1%} right in cross-validation, written to {out_dir / 'digits-image.joblib'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
