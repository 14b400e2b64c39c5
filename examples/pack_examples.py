"""Train the five example models and pack them into a repository, as `flask models add` would by hand.

    python examples/pack_examples.py [OUT_DIR] [MODELS_DIR]

Artifacts and samples go to OUT_DIR (default `build`), packed versions to MODELS_DIR (default `models`). Each run adds a
new version of each model.
"""

import os
import subprocess
import sys
from pathlib import Path

import train_diabetes
import train_digits
import train_digits_image
import train_iris_two
import train_penguins

ROOT = Path(__file__).resolve().parent.parent

# The script that trains each model, and the options of `flask models add`. A sample is the training table.
EXAMPLES = {
    "penguins": (train_penguins.main, ["--sample", "penguins.csv", "--target", "species", "--default"]),
    "diabetes": (train_diabetes.main, ["--sample", "diabetes.csv", "--target", "progression"]),
    "digits": (train_digits.main, ["--sample", "digits.csv", "--target", "digit"]),
    "digits-image": (train_digits_image.main, ["--sample", "digits-image.csv", "--inputs", "digits-image.json"]),
    "iris-two": (train_iris_two.main, []),
}


def pack(name: str, options: list[str], out_dir: Path, models_dir: Path) -> None:
    """Pack this model's artifact into the repository."""
    words = [f"{name}.joblib", "--name", name, *options]
    words = [str(out_dir / word) if word.endswith((".joblib", ".csv", ".json")) else word for word in words]
    command = [sys.executable, "-m", "flask", "models", "add", *words]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"RETORT_MODELS_DIR": str(models_dir)})


def main(out_dir: Path, models_dir: Path) -> None:
    """Train and pack each model."""
    models_dir.mkdir(parents=True, exist_ok=True)
    for name, (train, options) in EXAMPLES.items():
        train(out_dir)
        pack(name, options, out_dir, models_dir)


if __name__ == "__main__":
    out_argument, models_argument = [*sys.argv[1:], *["build", "models"][len(sys.argv) - 1 :]]
    main(Path(out_argument).resolve(), Path(models_argument).resolve())
