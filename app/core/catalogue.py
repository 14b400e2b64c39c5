"""The models and versions as JSON values: the bodies of `GET /models`, `GET /models/<name>` and `GET /readyz`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from app.errors import RetortError
from app.runtime.entry import Entry
from app.runtime.policy import State
from app.runtime.registry import Registry
from app.signature import Input
from app.storage.manifest import Assumption, Manifest
from app.telemetry import current_request

FACTS_OF_AN_INPUT = (
    "name", "kind", "nullable", "minimum", "maximum", "categories", "largest", "least", "most", "unseen", "shape",
    "dtype", "image", "example",
)  # fmt: skip

EntriesT = TypeVar("EntriesT")


class Catalogue:
    """The models and versions of the registry, described for clients. Safe to call from many threads."""

    def __init__(
        self, registry: Registry, failing: Callable[[], Sequence[str]] = tuple, ready_in_quarantine: bool = True
    ) -> None:
        self._registry = registry
        self._failing_services = failing
        self._ready_in_quarantine = ready_in_quarantine
        self._drains = False

    def drain(self) -> None:
        """Report from now on that nothing is ready, because this process is about to stop."""
        self._drains = True

    def models(self) -> dict[str, Any]:
        """Return every model with its versions, their states, and the reasons of failed versions.

        Like `current`, this leaves out the models that the API key of the request may not use.
        """
        default = self._registry.default()
        return {
            "models": [
                {"name": name, "default": name == default, "versions": [self._version(entry) for entry in entries]}
                for name, entries in permitted(self._registry.entries()).items()
            ]
        }

    def model(self, name: str, version: str | None = None) -> dict[str, Any]:
        """Return all facts about one version. Without `version`, describe the model's current version.

        Raises:
            ModelNotFound, VersionNotFound: the error names the existing ones.
        """
        entry = self._registry.entry(name, version)
        return self._whole(entry, self._registry.entries()[entry.model], self._registry.default())

    def current(self) -> dict[str, dict[str, Any]]:
        """Return all facts about every model's current version, by model, in one pass: there may be hundreds."""
        default, described = self._registry.default(), {}
        for name, entries in permitted(self._registry.entries()).items():
            with contextlib.suppress(RetortError):  # the model was removed meanwhile
                described[name] = self._whole(self._registry.entry(name), entries, default)
        return described

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Return whether this process is ready, and the body of `/readyz` with the reasons.

        The process is ready when every version is AVAILABLE (or was taken out of service by hand) and every service of
        the steps passes its check. A quarantined version does not make it unready while another version is AVAILABLE,
        unless the settings say otherwise. Otherwise a client could stop all traffic to this process by crashing a
        model.
        """
        if self._drains:
            return False, {"status": "draining", "reasons": []}
        entries = [entry for versions in self._registry.entries().values() for entry in versions]
        failed = [entry for entry in entries if entry.state not in (State.AVAILABLE, State.UNLOADING, State.RETIRED)]
        reasons: list[dict[str, Any]] = [
            {
                "model": e.model,
                "version": e.version,
                "state": e.state.value,
                "reason": e.reason or "it is not loaded yet",
            }
            for e in failed
        ]
        reasons += [
            {"service": name, "reason": "its check failed; the log has the cause"} for name in self._failing_services()
        ]
        tolerated = self._ready_in_quarantine and any(entry.state is State.AVAILABLE for entry in entries)
        ready = all(tolerated and reason.get("state") == State.QUARANTINED.value for reason in reasons)
        return ready, {"status": "ready" if ready else "unready", "models": len(entries), "reasons": reasons}

    def _whole(self, entry: Entry, versions: Sequence[Entry], default: str | None) -> dict[str, Any]:
        facts = describe(entry.manifest) if entry.manifest else {}
        return {
            "name": entry.model,
            "default": entry.model == default,
            **self._version(entry),
            "versions": [self._version(other) for other in versions],
            **facts,
            "runtime": entry.runtime,
        }

    def _version(self, entry: Entry) -> dict[str, Any]:
        aliases = self._registry.aliases(entry.model)
        line: dict[str, Any] = {
            "version": entry.version,
            "state": entry.state.value,
            "aliases": sorted(alias for alias, version in aliases.items() if version == entry.version),
            "runtime": entry.runtime,
        }
        return line | ({"reason": entry.reason} if entry.reason else {})


def permitted(entries: Mapping[str, EntriesT]) -> Mapping[str, EntriesT]:
    """Return the entries of the models that the API key of the current request may use."""
    allowed = current_request.get().permitted_models
    return entries if allowed is None else {name: entries[name] for name in entries if name in allowed}


def describe(manifest: Manifest) -> dict[str, Any]:
    """Return the facts of a manifest that clients may see."""
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
        "assumptions": [_assumption(assumption) for assumption in manifest.assumptions],
        "out_of_range": signature.out_of_range,
    }
    if manifest.trained_with:
        described["trained_with"] = {
            "requirements": list(manifest.trained_with),
            "source": manifest.trained_with_source,
        }
    if (explanation := manifest.explanation) is not None:
        described["explanation"] = {
            "method": explanation.method,
            "exact": explanation.method != "sampled",
            "output": explanation.output,
            "rows": explanation.rows,
            "largest_difference": explanation.largest_difference,
        }
    others = {"profile": manifest.profile, "card": manifest.card, "served_by": manifest.served_by}
    described |= {name: value for name, value in others.items() if value}
    if manifest.before or manifest.after:
        described["steps"] = {"before": list(manifest.before), "after": list(manifest.after)}
    optional = ("classes", "out_of_range")
    return {key: value for key, value in described.items() if key not in optional or value is not None}


def _assumption(assumption: Assumption) -> dict[str, Any]:
    described = {"about": assumption.about, "text": assumption.text}
    return described | ({"inputs": list(assumption.inputs)} if assumption.inputs else {})


def _input(spec: Input) -> dict[str, Any]:
    described = {name: getattr(spec, name) for name in FACTS_OF_AN_INPUT}
    described["unseen"] = spec.unseen if spec.categories is not None else None
    described["dtype"] = spec.dtype if spec.shape is not None else None
    return {key: value for key, value in described.items() if value is not None}
