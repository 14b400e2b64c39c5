"""Train a model of the bikes that a station will need on made-up days: `python train.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.linear_model import LinearRegression


def main(folder: Path) -> None:
    """Write bikes.joblib and bikes.csv."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "hour": random.uniform(0, 24, 100),
            "temperature": random.normal(15, 8, 100),
            "parked": random.uniform(0, 30, 100),
        }
    )
    bikes = 3 * table["temperature"] - table["parked"] + table["hour"]
    joblib.dump(LinearRegression().fit(table, bikes), folder / "bikes.joblib")
    table.assign(bikes=bikes).to_csv(folder / "bikes.csv", index=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
