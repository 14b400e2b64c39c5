"""Train a model of loan defaults on made-up customers, and write their database: `python train.py FOLDER`."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

CUSTOMERS = 200


def main(folder: Path) -> None:
    """Write loans.joblib, loans.csv and customers.db."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "income": random.normal(50_000, 15_000, CUSTOMERS).round(),
            "age": random.integers(18, 90, CUSTOMERS).astype(float),
            "amount": random.uniform(1_000, 60_000, CUSTOMERS).round(),
        }
    )
    default = table["amount"] > table["income"] * random.uniform(0.4, 1.2, CUSTOMERS)
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(table, default), folder / "loans.joblib")
    table.assign(default=default).to_csv(folder / "loans.csv", index=False)
    with sqlite3.connect(folder / "customers.db") as database:
        table[["income", "age"]].rename_axis("id").reset_index().to_sql("customers", database, if_exists="replace")
    database.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
