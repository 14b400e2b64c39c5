"""The straight line of a request: parse, validate, run, finish, encode."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from app.errors import DeadlineExceeded, FieldError, InvalidInstances, ModelFailed, RetortError, UnsupportedMediaType
from app.runtime.batching import BatchingServable
from app.runtime.pipeline import Pipeline
from app.runtime.registry import Lease, Registry
from app.signature import Signature
from app.signature.batch import Batch, Decoded, Outputs, json_values
from app.signature.pointers import escaped
from app.signature.watch import NONE, Warnings
from app.telemetry import Timings
from app.telemetry.metrics import OK, Metrics, NullMetrics

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, whatever its protocol.

    `pointer` is where the instances stand in the document; a `single` instance stands there itself, not in a list.
    `outputs` are output names at `outputs_pointer`, or None for the model's defaults. `batch` is there where the fast
    path has validated the instances already; `in_rows` says that those were rows and not records.
    """

    instances: Sequence[Any]
    pointer: str = "#"
    single: bool = False
    outputs: Sequence[Any] | None = None
    outputs_pointer: str = "#/outputs"
    batch: Batch | None = None
    in_rows: bool = False

    @classmethod
    def decoded(cls, decoded: Decoded) -> Asked:
        """What a document asks for that the fast path has read."""
        return cls((), decoded.pointer, decoded.single, decoded.outputs, "#/outputs", decoded.batch, decoded.in_rows)

    def place(self, row: int) -> tuple[str, bool]:
        """The pointer of an instance, and whether it is a row, not a record."""
        in_row = isinstance(self.instances[row], list) if row < len(self.instances) else self.in_rows
        return (self.pointer if self.single else f"{self.pointer}/{row}"), in_row


@dataclass(frozen=True, slots=True)
class Answer:
    """Predictions: by output name an array whose axis 0 is the instance; who gave them; what was new to the model."""

    outputs: Outputs
    classes: Sequence[object] | None
    model: str
    version: int
    warnings: Warnings = NONE

    def values(self) -> dict[str, list[Any]]:
        """The outputs as JSON values, one for each instance."""
        return {name: json_values(array) for name, array in self.outputs.items()}


@dataclass(frozen=True, slots=True)
class Sifted:
    """Instances of which some were refused: the answer to the others, in their order; why, and what was new in those
    that were not, by position."""

    answer: Answer
    refused: Mapping[int, RetortError]
    warnings: Mapping[int, Warnings]


Decode = Callable[[bytes], Decoded | None]
"""A JSON body in this service's own form as a batch, where that can be told at first sight."""


class Exchange(Protocol):
    """One request and its answer as a protocol writes them. Belongs to one request."""

    def parse(self, signature: Signature, decode: Decode) -> Asked:
        """What the body asks for; raises what is wrong with its form. `decode` is the fast path for JSON."""

    def encode(self, answer: Answer) -> bytes:
        """The answer's body."""


class PredictService:
    """Answers one request after another. Lives as long as the process; safe to call from many threads."""

    def __init__(self, registry: Registry, metrics: Metrics | None = None) -> None:
        self._registry = registry
        self._metrics = metrics or NullMetrics()

    def predict(self, model: str | None, version: str | None, exchange: Exchange, timings: Timings) -> bytes:
        """The body of the answer of a model (None: the default one) in a version or alias (None: the current one).

        Raises:
            ModelNotFound, VersionNotFound, ModelUnavailable: there is nothing to ask.
            InvalidInstances, TooManyInstances: what was asked is not acceptable.
            ModelFailed: the model raised, or its outputs do not fit the batch.
        """
        with self._registry.lease(model, version) as lease:
            try:
                return self._answer(lease, exchange, timings)
            except RetortError as error:
                self._metrics.predicted(lease.manifest.model, lease.manifest.version, error.code.value, 0, 0.0)
                raise

    def attempt(self, model: str | None, exchange: Exchange, timings: Timings) -> bytes:
        """As `predict` with the current version, for who asks `predict` the same again if this raises.

        Raises:
            LookupError: the model has steps, which may wait for others, and know their caller.
        """
        with self._registry.lease(model) as lease:
            if lease.pipeline is not None:
                raise LookupError("a model with steps is not answered in this way")
            return self._answer(lease, exchange, timings)

    def _answer(self, lease: Lease, exchange: Exchange, timings: Timings) -> bytes:
        asked, batch, outputs, warnings = _accepted(lease, exchange, timings)
        if lease.pipeline is None or batch.rows == 0:
            results = _run(lease, batch, outputs)
            timings.ended("run")
        else:
            results = _run_with_steps(lease.pipeline, lease, asked, batch, outputs, timings)
        content = exchange.encode(_finish(lease, results, warnings))
        timings.ended("encode")
        self._metrics.predicted(lease.manifest.model, lease.manifest.version, OK, batch.rows, timings.total_s)
        return content

    def series(self, model: str | None, version: str | None) -> Series:
        """Answers to one block of instances after another, all of one version; to be closed.

        Raises:
            ModelNotFound, VersionNotFound, ModelUnavailable: there is nothing to ask.
            UnsupportedMediaType: the model has steps, which take whole requests.
        """
        lease = self._registry.lease(model, version)
        if lease.pipeline is not None:
            because = f"model {lease.manifest.model} has steps, which take whole requests and no streams"
            raise UnsupportedMediaType("application/x-ndjson", ["application/json"], because=because)
        return Series(lease, self._metrics)

    def predict_together(self, model: str | None, requests: Sequence[tuple[Exchange, Timings]]) -> list[bytes | None]:
        """The bodies of the answers to several requests; None for those that `predict` has to answer.

        Each phase is done for all of them before the next. A servable that shares runs gets them all at once.
        """
        answers: list[bytes | None] = [None] * len(requests)
        with self._registry.lease(model) as lease:
            if lease.pipeline is not None:
                return answers
            accepted: dict[int, tuple[Batch, tuple[str, ...]]] = {}
            warnings: dict[int, Warnings] = {}
            for at, (exchange, timings) in enumerate(requests):
                with contextlib.suppress(RetortError):
                    _, batch, outputs, warnings[at] = _accepted(lease, exchange, timings)
                    if batch.rows:
                        accepted[at] = batch, outputs
            for at, results in zip(accepted, _run_each(lease, list(accepted.values())), strict=True):
                exchange, timings = requests[at]
                timings.ended("run")
                if results is None:
                    continue
                answers[at] = exchange.encode(_finish(lease, results, warnings[at]))
                timings.ended("encode")
                rows = accepted[at][0].rows
                self._metrics.predicted(lease.manifest.model, lease.manifest.version, OK, rows, timings.total_s)
        return answers


class Series:
    """Blocks of instances, each refused or answered alone. Holds a lease until it is closed; belongs to one request."""

    def __init__(self, lease: Lease, metrics: Metrics) -> None:
        self._lease = lease.__enter__()
        self._metrics = metrics
        self._timings = Timings()
        self._rows = 0

    def predict(self, instances: Sequence[Any]) -> Sifted:
        """The default outputs of those that are acceptable; raises nothing that is wrong with one of them."""
        refused = dict[int, RetortError]()
        kept, accepted = dict(enumerate(instances)), None
        with contextlib.suppress(InvalidInstances):
            accepted = self._validated(instances)
        if accepted is None:
            for position, instance in enumerate(instances):
                try:
                    self._validated([instance])
                except InvalidInstances as error:
                    # Its traceback would hold all of this until it is collected.
                    refused[position] = error.with_traceback(None)
                    del kept[position]
            accepted = self._validated(list(kept.values()))
        batch, warnings = accepted
        new = dict(zip(kept, map(warnings.get, range(batch.rows)), strict=True)) if warnings else {}
        try:
            outputs = _run(self._lease, batch, self._lease.manifest.signature.defaults)
        except DeadlineExceeded as error:
            refused |= dict.fromkeys(kept, error)
            outputs = self._each_alone({}, refused)
        except ModelFailed:
            outputs = self._each_alone(kept, refused)
        self._rows += len(instances) - len(refused)
        return Sifted(_finish(self._lease, outputs, NONE), refused, {at: each for at, each in new.items() if each})

    def _validated(self, instances: Sequence[Any]) -> tuple[Batch, Mapping[int, Warnings]]:
        """The instances as a batch, and what in each row is new to the model; each stands for itself in an error."""
        batch = self._lease.validator.validate(instances, "#", single=True)
        watch = self._lease.validator.watch
        return batch, {} if watch is None else watch.check_each(batch, Asked(instances, "#", single=True).place)

    def _each_alone(self, kept: Mapping[int, Any], refused: dict[int, RetortError]) -> Outputs:
        """The outputs of those instances that the model can be asked alone; why the others cannot."""
        names = self._lease.manifest.signature.defaults
        found = []
        for position, instance in kept.items():
            try:
                found.append(_run(self._lease, self._lease.validator.validate([instance]), names))
            except (ModelFailed, DeadlineExceeded) as error:
                refused[position] = error.with_traceback(None)
        return {name: np.concatenate([each[name] for each in found]) if found else np.empty(0) for name in names}

    def close(self) -> None:
        """Counts what was answered, and gives the lease back."""
        manifest = self._lease.manifest
        self._timings.ended("run")
        self._metrics.predicted(manifest.model, manifest.version, OK, self._rows, self._timings.total_s)
        self._lease.__exit__(None, None, None)


def _accepted(lease: Lease, exchange: Exchange, timings: Timings) -> tuple[Asked, Batch, tuple[str, ...], Warnings]:
    """What a request asks for, as a batch and the names of the outputs, and what in it is new to the model.

    Raises what is wrong with it.
    """
    # Steps take the instances, which the fast path does not keep.
    decode = lease.validator.decode if lease.pipeline is None else _undecoded
    asked = exchange.parse(lease.manifest.signature, decode)
    timings.ended("parse")
    outputs = _output_names(asked, lease.manifest.signature)
    batch = asked.batch or lease.validator.validate(asked.instances, asked.pointer, asked.single)
    watch = lease.validator.watch
    warnings = NONE if watch is None else watch.check(batch, asked.place)
    timings.ended("validate")
    return asked, batch, outputs, warnings


def _undecoded(body: bytes) -> Decoded | None:
    return None


def _run_with_steps(
    pipeline: Pipeline, lease: Lease, asked: Asked, batch: Batch, outputs: tuple[str, ...], timings: Timings
) -> Outputs:
    """As `_run`, with the steps of the model before and after."""

    def refusal(wrong: Sequence[tuple[int, str, str]]) -> InvalidInstances:
        names = lease.manifest.signature.names
        return InvalidInstances([_refused(asked, names, *each) for each in wrong[:100]], len(wrong))

    with pipeline.visit(batch, asked.instances, refusal) as visit:
        prepared = visit.prepare()
        timings.ended("prepare")
        results = _run(lease, prepared, visit.run_for(outputs))
        timings.ended("run")
        finished = visit.finish(results, outputs)
        timings.ended("finish")
    return finished


def _refused(asked: Asked, names: Sequence[str], position: int, name: str, detail: str) -> FieldError:
    """Where in the document the value stands that a step refuses."""
    place = asked.pointer if asked.single else f"{asked.pointer}/{position}"
    instance = asked.instances[position] if 0 <= position < len(asked.instances) else None
    is_row = isinstance(instance, list) and name in names
    return FieldError(f"{place}/{names.index(name) if is_row else escaped(name)}", detail)


def _output_names(asked: Asked, signature: Signature) -> tuple[str, ...]:
    if asked.outputs is None:
        return signature.defaults
    allowed = ", ".join(signature.outputs)
    errors = [
        FieldError(f"{asked.outputs_pointer}/{position}", f"must be one of: {allowed}", str(name)[:100])
        for position, name in enumerate(asked.outputs)
        if not isinstance(name, str) or name not in signature.outputs
    ]
    if errors:
        raise InvalidInstances(errors[:100], len(errors))
    return tuple(dict.fromkeys(asked.outputs)) or signature.defaults


def _run(lease: Lease, batch: Batch, names: Sequence[str]) -> Outputs:
    """The outputs, each with the batch's number of rows; an empty batch is not shown to any model."""
    if batch.rows == 0:
        return {name: np.empty(0) for name in names}
    try:
        outputs = lease.servable.run(batch, names)
    except DeadlineExceeded:
        raise
    except (Exception, SystemExit) as error:
        log.exception("model %s version %d raised", lease.manifest.model, lease.manifest.version)
        raise ModelFailed(lease.manifest.model, lease.manifest.version, str(error)) from error
    for name in names:
        if outputs[name].ndim == 0 or len(outputs[name]) != batch.rows:
            cause = f"{name} has shape {outputs[name].shape} for a batch of {batch.rows} rows"
            log.error("model %s version %d: %s", lease.manifest.model, lease.manifest.version, cause)
            raise ModelFailed(lease.manifest.model, lease.manifest.version, cause)
    return outputs


def _run_each(lease: Lease, asked: Sequence[tuple[Batch, tuple[str, ...]]]) -> Sequence[Outputs | None]:
    """The outputs of each of these batches; None for those whose run failed."""
    if isinstance(lease.servable, BatchingServable):
        return lease.servable.run_each(asked)
    found: list[Outputs | None] = [None] * len(asked)
    for at, (batch, names) in enumerate(asked):
        with contextlib.suppress(RetortError):
            found[at] = _run(lease, batch, names)
    return found


def _finish(lease: Lease, outputs: Outputs, warnings: Warnings) -> Answer:
    manifest = lease.manifest
    return Answer(outputs, manifest.signature.classes, manifest.model, manifest.version, warnings)
