"""Train `penguins`, which predicts the species of a penguin.

    python examples/train_penguins.py [OUT_DIR]

Mixed columns, some of them missing: numbers are imputed and scaled, words are imputed and one-hot encoded, and a forest
decides. The encoder keeps its default `handle_unknown="error"`, so an island it never saw is refused and not guessed.
"""

import sys
from pathlib import Path

import joblib
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "year"]
WORDS = ["island", "sex"]
TARGET = "species"


def load() -> pd.DataFrame:
    """Return all 344 penguins, also those with missing measurements."""
    return pd.read_csv(Path(__file__).with_name("penguins.csv"), na_values="NA")


def build() -> Pipeline:
    """Return the model, unfitted."""
    columns = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), NUMBERS),
            ("words", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), WORDS),
        ]
    )
    forest = RandomForestClassifier(n_estimators=100, min_samples_leaf=2, random_state=0)
    return Pipeline([("columns", columns), ("forest", forest)])


def main(out_dir: Path) -> None:
    """Train on the whole table, print the score, write the artifact and its sample."""
    penguins = load()
    features, species = penguins.drop(columns=TARGET), penguins[TARGET]

    model = build()
    accuracy = cross_val_score(model, features, species, cv=5).mean()
    model.fit(features, species)

    out_dir.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, out_dir / "penguins.joblib", compress=3)
    penguins.to_csv(out_dir / "penguins.csv", index=False)
    print(f"penguins: {accuracy:.1%} right in cross-validation, written to {out_dir / 'penguins.joblib'}")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "build"))
