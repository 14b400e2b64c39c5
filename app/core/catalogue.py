"""What there is to serve, as plain JSON values: the bodies of `GET /models`, `GET /models/<name>` and `GET /readyz`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from app.runtime.live import LiveRegistry
from app.runtime.policy import State
from app.runtime.registry import Entry
from app.signature import Input
from app.storage.manifest import Assumption, Manifest


class Catalogue:
    """Answers questions about the registry's versions, and has models loaded and unloaded.

    Safe to call from many threads.
    """

    def __init__(
        self,
        registry: LiveRegistry,
        unwell: Callable[[], Sequence[str]] = tuple,
        ready_in_quarantine: bool = True,
    ) -> None:
        self._registry = registry
        self._unwell = unwell
        self._ready_in_quarantine = ready_in_quarantine
        self._drains = False

    def drain(self) -> None:
        """Say from now on that nothing is ready: this process is about to stop."""
        self._drains = True

    def models(self) -> dict[str, Any]:
        """Every model with its versions, their states, and the reasons of those that failed."""
        default = self._registry.default()
        return {
            "models": [
                {"name": name, "default": name == default, "versions": [self._version(entry) for entry in entries]}
                for name, entries in self._registry.entries().items()
            ]
        }

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Everything that is known of one version; without one, of the model's current.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
        """
        entry = self._registry.entry(name, version)
        line = self._version(entry)
        versions = [self._version(other) for other in self._registry.entries()[entry.model]]
        described = {
            "name": entry.model,
            "default": entry.model == self._registry.default(),
            **line,
            "versions": versions,
        }
        known = describe(entry.manifest) if entry.manifest else {}
        return {**described, **known, "runtime": entry.runtime}

    def entry(self, name: str, version: str | None = None) -> Entry:
        """One version as this process has it, in whatever state; without one, the model's current or else newest.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
        """
        return self._registry.entry(name, version)

    def entries(self) -> dict[str, list[Entry]]:
        """Every version of every model as this process has it."""
        return self._registry.entries()

    def load(self, name: str) -> None:
        """Has every version of a model that is in the repository served, by every worker.

        Raises:
            ModelNotFound: naming those there are.
            ModelUnavailable: none of its versions can be served.
        """
        self._registry.load_model(name)

    def unload(self, name: str) -> None:
        """Takes a model out of service, in every worker, until it is loaded again.

        Raises:
            ModelNotFound: naming those there are.
        """
        self._registry.unload_model(name)

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether this process is ready, and the body of `/readyz` with the reasons where it is not.

        It is ready when every version is AVAILABLE, unless somebody took it out of service, and every service of the
        steps is well. A quarantined version does not count as long as another version is AVAILABLE and the settings
        do not say otherwise: else a client that knows what ends a model's process could take the instance out of
        rotation.
        """
        if self._drains:
            return False, {"status": "draining", "reasons": []}
        entries = [entry for versions in self._registry.entries().values() for entry in versions]
        failed = [entry for entry in entries if entry.state not in (State.AVAILABLE, State.RETIRED)]
        reasons: list[dict[str, Any]] = [
            {
                "model": e.model,
                "version": e.version,
                "state": e.state.value,
                "reason": e.reason or "it is not loaded yet",
            }
            for e in failed
        ]
        reasons += [{"service": name, "reason": "its check failed; the log has the cause"} for name in self._unwell()]
        tolerated = self._ready_in_quarantine and any(entry.state is State.AVAILABLE for entry in entries)
        ready = all(tolerated and reason.get("state") == State.QUARANTINED.value for reason in reasons)
        return ready, {"status": "ready" if ready else "unready", "models": len(entries), "reasons": reasons}

    def _version(self, entry: Entry) -> dict[str, Any]:
        aliases = self._registry.aliases(entry.model)
        line: dict[str, Any] = {
            "version": entry.version,
            "state": entry.state.value,
            "aliases": sorted(alias for alias, version in aliases.items() if version == entry.version),
            "runtime": entry.runtime,
        }
        return line | ({"reason": entry.reason} if entry.reason else {})


def describe(manifest: Manifest) -> dict[str, Any]:
    """The facts of a manifest that are for clients."""
    signature = manifest.signature
    inputs = [_input(spec) for spec in signature.inputs]
    described: dict[str, Any] = {
        "task": manifest.task,
        "estimator": manifest.estimator,
        "created": manifest.created,
        "signature": {"inputs": inputs, "outputs": list(signature.outputs)},
        "inputs": inputs,
        "outputs": list(signature.outputs),
        "classes": signature.classes,
        "examples": [{"instance": e.instance, **e.outputs} for e in manifest.examples],
        "examples_made_up": manifest.examples_made_up,
        "environment": manifest.environment,
        "sha256": {name: record.sha256 for name, record in manifest.files.items()},
        "runtime": manifest.runtime,
        "proof": manifest.proof,
        "assumptions": [_assumption(each) for each in manifest.assumptions],
        "out_of_range": signature.out_of_range,
    }
    if manifest.trained_with:
        described["trained_with"] = {
            "requirements": list(manifest.trained_with),
            "source": manifest.trained_with_source,
        }
    if manifest.served_by:
        described["served_by"] = manifest.served_by
    if manifest.before or manifest.after:
        described["steps"] = {"before": list(manifest.before), "after": list(manifest.after)}
    absent = ("classes", "out_of_range")
    return {key: value for key, value in described.items() if key not in absent or value is not None}


def _assumption(assumption: Assumption) -> dict[str, Any]:
    described = {"about": assumption.about, "text": assumption.text}
    return described | ({"inputs": list(assumption.inputs)} if assumption.inputs else {})


def _input(spec: Input) -> dict[str, Any]:
    described = {
        "name": spec.name,
        "kind": spec.kind,
        "nullable": spec.nullable,
        "minimum": spec.minimum,
        "maximum": spec.maximum,
        "categories": spec.categories,
        "largest": spec.largest,
        "least": spec.least,
        "most": spec.most,
        "unseen": spec.unseen if spec.categories is not None else None,
        "shape": spec.shape,
        "dtype": spec.dtype if spec.shape is not None else None,
        "image": spec.image,
        "example": spec.example,
    }
    return {key: value for key, value in described.items() if value is not None}
