"""What an environment like a training environment is made of, as pip takes it."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, packages_distributions, version

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from app.packing.trained_with import LIBRARIES, SCIKIT_LEARN, Training

PACKING = ("marshmallow", "msgspec", "onnx", "onnxruntime")
"""What packing needs besides the libraries of the training environment, in the versions that are installed here."""

DISTRIBUTIONS = {
    "catboost": "catboost",
    "category_encoders": "category-encoders",
    "cloudpickle": "cloudpickle",
    "feature_engine": "feature-engine",
    "imblearn": "imbalanced-learn",
    "lightgbm": "lightgbm",
    "pyod": "pyod",
    "statsmodels": "statsmodels",
    "xgboost": "xgboost-cpu",
}
"""The distribution of each module that an artifact may name. Other modules are the user's own."""

PINNED_AS_HERE = ("xgboost", "lightgbm", "catboost")
"""Libraries that do not depend on the version of scikit-learn: packing uses the versions that serve."""

BOUNDS_BEFORE = (
    ("1.3", {"scipy": "<1.12", "pandas": "<2.2", "numpy": "<2"}),
    ("1.4", {"scipy": "<1.13", "pandas": "<2.3", "numpy": "<2"}),
    ("1.5", {"scipy": "<1.14", "pandas": "<3", "numpy": "<2"}),
    ("1.6", {"scipy": "<1.15", "pandas": "<3"}),
    ("1.7", {"scipy": "<1.16", "pandas": "<3"}),
    ("1.8", {"scipy": "<1.17", "pandas": "<3"}),
)
"""The versions of other libraries that scikit-learn before each of these releases was tested with."""


def requirements_of(training: Training, *, of_its_time: bool = True) -> list[str]:
    """Return the requirements of an environment like the training environment.

    Unknown libraries are bounded by the time of the scikit-learn release; without `of_its_time` only NumPy is, against
    which the release was built.
    """
    wanted = dict(training.requirements)
    here = installed_version(SCIKIT_LEARN)
    wanted.setdefault(SCIKIT_LEARN, f"=={here}" if here else "")
    oldest = min((Version(one.version.removesuffix(".*")) for one in SpecifierSet(wanted[SCIKIT_LEARN])), default=None)
    usual = next((bounds for release, bounds in BOUNDS_BEFORE if oldest and oldest < Version(release)), {})
    usual = {name: bound for name, bound in usual.items() if of_its_time or name == "numpy"}
    if any(module.startswith("numpy._core") for module in training.modules):
        usual = usual | {"numpy": ">=2"}
    elif any(module.startswith("numpy.core") for module in training.modules):
        usual = usual | {"numpy": "<2"}
    for library in LIBRARIES:
        wanted.setdefault(library, usual.get(library, ""))
    return [
        *(f"{name}{specifier}" for name, specifier in wanted.items()),
        *map(pinned_as_here, PACKING),
        *_named_distributions(training.modules),
        "joblib",
    ]


def is_installed(name: str, specifier: str) -> bool:
    """Whether a version of a library is installed here that meets the specifier."""
    here = installed_version(name)
    return here is not None and SpecifierSet(specifier).contains(here, prereleases=True)


def installed_version(name: str) -> str | None:
    """Return the version of a library that is installed here, or None."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def pinned_as_here(name: str) -> str:
    """Return a requirement for the version that is installed here, or for any version."""
    here = installed_version(name)
    return name if here is None else f"{name}=={here}"


def _named_distributions(modules: frozenset[str]) -> list[str]:
    """Return requirements for the distributions of the modules that an artifact names."""
    here = packages_distributions()
    found = set()
    for top in {module.partition(".")[0] for module in modules} & DISTRIBUTIONS.keys():
        name = here.get(top, [DISTRIBUTIONS[top]])[0]
        found.add(pinned_as_here(name) if top in PINNED_AS_HERE else name)
    return sorted(found)
