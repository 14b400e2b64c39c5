"""Train the four example models and pack them into a repository, as `flask models add` would by hand.

    python examples/pack_examples.py [OUT_DIR] [MODELS_DIR]

Artifacts and samples go to OUT_DIR (default `build`), packed versions to MODELS_DIR (default `models`). Each run adds a
new version of each model.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# What `flask models add ARTIFACT` is told beside the artifact, model by model; a sample is the training table.
ADD: dict[str, list[str]] = {
    "penguins": ["--sample", "penguins.csv", "--target", "species", "--default"],
    "diabetes": ["--sample", "diabetes.csv", "--target", "progression"],
    "digits": ["--sample", "digits.csv", "--target", "digit"],
    "iris-two": [],
}


def train(name: str, out_dir: Path) -> None:
    """Run the training script of this model."""
    script = ROOT / "examples" / f"train_{name.replace('-', '_')}.py"
    subprocess.run([sys.executable, str(script), str(out_dir)], check=True)


def pack(name: str, out_dir: Path, models_dir: Path) -> None:
    """Pack this model's artifact into the repository."""
    command = [sys.executable, "-m", "flask", "models", "add", f"{name}.joblib", "--name", name, *ADD[name]]
    command = [str(out_dir / word) if word.endswith((".joblib", ".csv")) else word for word in command]
    subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"RETORT_MODELS_DIR": str(models_dir)})


def main(out_dir: Path, models_dir: Path) -> None:
    """Train and pack each model."""
    models_dir.mkdir(parents=True, exist_ok=True)
    for name in ADD:
        train(name, out_dir)
        pack(name, out_dir, models_dir)


if __name__ == "__main__":
    out_argument, models_argument = [*sys.argv[1:], *["build", "models"][len(sys.argv) - 1 :]]
    main(Path(out_argument).resolve(), Path(models_argument).resolve())
