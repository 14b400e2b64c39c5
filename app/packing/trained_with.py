"""Find the training environment of an artifact without running any code in it.

Each of these sources overrides the ones before it: the `requirements.txt` that MLflow writes beside an artifact; the
versions in a pickle or in the schema of a `.skops` file; `--trained-with`.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from app.errors import PackingRefused
from app.packing import pickled
from app.packing.pickled import VERSION_KEY, Named
from app.runtime.environment import installed_version

SCIKIT_LEARN = "scikit-learn"
SCHEMA = "schema.json"
MAX_SCHEMA_BYTES = 64 * 2**20
MAX_REQUIREMENTS_BYTES = 2**20
LIBRARIES = (SCIKIT_LEARN, "numpy", "scipy", "pandas")
"""The libraries that change the answers of an estimator; others are found by the modules that an artifact names."""


@dataclass(frozen=True, slots=True)
class Training:
    """The known part of a training environment, with remarks for the user.

    `requirements` has a version specifier for each library, such as `==1.4.2`. `source` says where they come from, as
    the end of a sentence. `modules` are the modules that the artifact names.
    """

    requirements: dict[str, str] = field(default_factory=dict)
    source: str = ""
    modules: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()

    def shown(self) -> str:
        """Return the libraries with their versions as text for people."""
        return ", ".join(f"{name} {spec.removeprefix('==')}" for name, spec in self.requirements.items())


def find(artifact: Path, declared: str | None = None, beside: Sequence[Path] = ()) -> Training:
    """Find the training environment of an artifact.

    `declared` has the requirements of the user, separated by commas, and `beside` further files of the same model.
    Refuse a version that is not valid.
    """
    files = [(path, _read_names(path)) for path in (*beside, artifact)]
    given = _parse_requirements(declared) if declared else {}
    requirements, remarks = _mlflow_requirements(artifact), []
    sources = dict.fromkeys(requirements, "the requirements.txt of MLflow beside it")
    named = [] if SCIKIT_LEARN in given else [(path, version) for path, each in files for version in each.versions]
    versions = list(dict.fromkeys(_require_version(path, version) for path, version in named))
    if versions:
        requirements[SCIKIT_LEARN] = f"=={versions[-1]}"
        sources[SCIKIT_LEARN] = "the artifact"
        if len(versions) > 1:
            remarks.append(
                f"its parts were saved with scikit-learn {' and '.join(versions)}; "
                f"{versions[-1]}, the version of the outermost part, is used"
            )
    sources |= dict.fromkeys(given, "--trained-with")
    requirements |= given
    order = [name for name in LIBRARIES if name in requirements]
    requirements = {name: requirements[name] for name in dict.fromkeys([*order, *sorted(requirements)])}
    source = " and ".join(dict.fromkeys(sources[name] for name in requirements))
    return Training(requirements, source, frozenset().union(*(each.modules for _, each in files)), tuple(remarks))


def _read_names(artifact: Path) -> Named:
    """Read the names in an artifact; return no names if it is not a file, because its loader reports that."""
    try:
        if zipfile.is_zipfile(artifact):
            return _read_skops(artifact)
        with artifact.open("rb") as stream:
            return pickled.read(stream)
    except OSError:
        return Named()


def _read_skops(artifact: Path) -> Named:
    named = Named()
    try:
        with zipfile.ZipFile(artifact) as archive, archive.open(SCHEMA) as stream:
            content = stream.read(MAX_SCHEMA_BYTES + 1)
        schema = json.loads(content) if len(content) <= MAX_SCHEMA_BYTES else None
    except (KeyError, ValueError, RecursionError, zipfile.BadZipFile, NotImplementedError):
        return named
    versions = []
    for node in _nodes(schema):
        module = node.get("__module__")
        if isinstance(module, str):
            named.modules.add(module)
        entry = node.get(VERSION_KEY)
        version = entry.get("content") if isinstance(entry, dict) else None
        if isinstance(version, str):
            versions.append(version.strip('"'))
    for version in reversed(versions):  # a node precedes its parts, and the last version noted is the outermost
        named.note_version(version)
    named.whole = True
    return named


def _nodes(schema: object) -> Iterator[dict[str, object]]:
    """Yield every JSON object in the schema, outer objects before inner ones."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            yield part
            waiting.extend(reversed(part.values()))
        elif isinstance(part, list):
            waiting.extend(reversed(part))


def _require_version(artifact: Path, version: str) -> str:
    try:
        return str(Version(version))
    except InvalidVersion:
        raise PackingRefused(
            f"{artifact} says that it was saved with scikit-learn {version[:80]!r}, which is not a version; "
            "if you know the right one, name it: --trained-with scikit-learn==VERSION"
        ) from None


def _mlflow_requirements(artifact: Path) -> dict[str, str]:
    """Return the libraries in the `requirements.txt` that MLflow writes beside an artifact."""
    if not (artifact.parent / "MLmodel").is_file():
        return {}
    try:
        with (artifact.parent / "requirements.txt").open("rb") as stream:
            lines = stream.read(MAX_REQUIREMENTS_BYTES).decode("utf-8", "replace").splitlines()
    except OSError:
        return {}
    requirements: dict[str, str] = {}
    for line in lines:
        try:
            requirement = Requirement(line.partition("#")[0].strip())
        except InvalidRequirement:
            continue
        if canonicalize_name(requirement.name) in LIBRARIES and requirement.url is None and requirement.specifier:
            requirements[canonicalize_name(requirement.name)] = str(requirement.specifier)
    return requirements


def _parse_requirements(declared: str) -> dict[str, str]:
    """Parse requirements such as `scikit-learn==1.4.2,numpy>=1.26,<2`."""
    requirements: dict[str, str] = {}
    name = ""
    for part in filter(None, (part.strip() for part in declared.replace(";", ",").split(","))):
        try:
            requirement = Requirement(f"{name}{part}" if part[0] in "<>=!~" else part)
        except InvalidRequirement:
            requirement = None
        if requirement is None or requirement.url or requirement.extras or requirement.marker:
            raise PackingRefused(
                f"--trained-with {declared!r}: {part!r} is not a library with a version, such as scikit-learn==1.4.2; "
                "several are separated by commas"
            )
        if not requirement.specifier:
            raise PackingRefused(f"--trained-with {declared!r}: {part!r} names no version, as in {part}==1.4.2")
        name = canonicalize_name(requirement.name)
        requirements[name] = ",".join(filter(None, (requirements.get(name), str(requirement.specifier))))
    return requirements


PACKING = ("marshmallow", "msgspec", "onnx", "onnxruntime")
"""Libraries that packing needs in addition to the training environment, in the versions installed here."""

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
"""The distribution of each module that an artifact may name. Other modules belong to the user."""

PINNED_AS_HERE = ("xgboost", "lightgbm", "catboost")
"""Libraries that do not depend on the version of scikit-learn; packing uses the versions installed here."""

BOUNDS_BEFORE = (
    ("1.3", {"scipy": "<1.12", "pandas": "<2.2", "numpy": "<2"}),
    ("1.4", {"scipy": "<1.13", "pandas": "<2.3", "numpy": "<2"}),
    ("1.5", {"scipy": "<1.14", "pandas": "<3", "numpy": "<2"}),
    ("1.6", {"scipy": "<1.15", "pandas": "<3"}),
    ("1.7", {"scipy": "<1.16", "pandas": "<3"}),
    ("1.8", {"scipy": "<1.17", "pandas": "<3"}),
)
"""The versions of other libraries with which scikit-learn was tested before each of these releases."""


def requirements_of(training: Training, *, tested_only: bool = True) -> list[str]:
    """Return the requirements of an environment that matches the training environment.

    Libraries of unknown version are limited to versions that the scikit-learn release was tested with; without
    `tested_only`, only NumPy is limited, because the release was built against it.
    """
    requirements = dict(training.requirements)
    here = installed_version(SCIKIT_LEARN)
    requirements.setdefault(SCIKIT_LEARN, f"=={here}" if here else "")
    oldest = min(
        (Version(each.version.removesuffix(".*")) for each in SpecifierSet(requirements[SCIKIT_LEARN])), default=None
    )
    bounds = next((bounds for release, bounds in BOUNDS_BEFORE if oldest and oldest < Version(release)), {})
    bounds = {name: bound for name, bound in bounds.items() if tested_only or name == "numpy"}
    if any(module.startswith("numpy._core") for module in training.modules):
        bounds = bounds | {"numpy": ">=2"}
    elif any(module.startswith("numpy.core") for module in training.modules):
        bounds = bounds | {"numpy": "<2"}
    for library in LIBRARIES:
        requirements.setdefault(library, bounds.get(library, ""))
    return [
        *(f"{name}{specifier}" for name, specifier in requirements.items()),
        *map(pinned_as_here, PACKING),
        *_named_distributions(training.modules),
        "joblib",
    ]


def is_installed(name: str, specifier: str) -> bool:
    """Return whether the installed version of a library satisfies the specifier."""
    here = installed_version(name)
    return here is not None and SpecifierSet(specifier).contains(here, prereleases=True)


def pinned_as_here(name: str) -> str:
    """Return a requirement for the installed version, or for any version if none is installed."""
    here = installed_version(name)
    return name if here is None else f"{name}=={here}"


def _named_distributions(modules: frozenset[str]) -> list[str]:
    """Return requirements for the distributions of the modules that an artifact names."""
    distributions = packages_distributions()
    requirements = set()
    for top in {module.partition(".")[0] for module in modules} & DISTRIBUTIONS.keys():
        name = distributions.get(top, [DISTRIBUTIONS[top]])[0]
        requirements.add(pinned_as_here(name) if top in PINNED_AS_HERE else name)
    return sorted(requirements)
