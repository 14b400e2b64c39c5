"""The straight line of a request: parse, validate, run, finish, encode."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.answer import Answer
from app.core.run import FINAL, run, run_each
from app.core.series import Series
from app.errors import FieldError, InvalidInstances, RetortError, UnsupportedMediaType
from app.runtime.pipeline import Pipeline
from app.runtime.registry import Lease, Registry
from app.signature import Signature
from app.signature.batch import Batch, Decoded, Outputs
from app.signature.pointers import in_row, place_of
from app.signature.refusals import MOST_ERRORS, refuse
from app.signature.watch import NONE, Warnings
from app.telemetry import Timings
from app.telemetry.metrics import OK, Metrics, NullMetrics


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for, whatever its protocol.

    `pointer` is where the instances stand in the document; a `single` instance stands there itself, not in a list.
    `outputs` are output names at `outputs_pointer`, or None for the model's defaults. `batch` is there where the fast
    path has validated the instances already; `in_rows` then says what `in_row` says of each.
    """

    instances: Sequence[Any]
    pointer: str = "#"
    single: bool = False
    outputs: Sequence[Any] | None = None
    outputs_pointer: str = "#/outputs"
    batch: Batch | None = None
    in_rows: bool | None = False

    @classmethod
    def decoded(cls, decoded: Decoded, outputs: Sequence[Any] | None = None) -> Asked:
        """What a document asks for that the fast path has read; the protocol's `outputs` where it names none."""
        wanted = decoded.outputs or outputs
        return cls((), decoded.pointer, decoded.single, wanted, "#/outputs", decoded.batch, decoded.in_rows)

    def place(self, row: int) -> tuple[str, bool | None]:
        """The pointer of an instance, and whether it is a row, as `in_row` says."""
        is_row = in_row(self.instances[row]) if 0 <= row < len(self.instances) else self.in_rows
        return (self.pointer if self.single else f"{self.pointer}/{row}"), is_row


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
                self._failed(lease, error)
                raise

    def attempt(self, model: str | None, exchange: Exchange, timings: Timings) -> bytes:
        """As `predict` with the current version, for who asks `predict` the same again if this raises.

        Raises:
            ModelFailed, DeadlineExceeded: the model was run or waited for, as it need not be again; this is counted.
            LookupError: the model has steps, which may wait for others, and know their caller.
        """
        with self._registry.lease(model) as lease:
            if lease.pipeline is not None:
                raise LookupError("a model with steps is not answered in this way")
            try:
                return self._answer(lease, exchange, timings)
            except FINAL as error:
                self._failed(lease, error)
                raise

    def _answer(self, lease: Lease, exchange: Exchange, timings: Timings) -> bytes:
        asked, batch, outputs, warnings = _accepted(lease, exchange, timings)
        if lease.pipeline is None or batch.rows == 0:
            results = run(lease, batch, outputs)
            timings.ended("run")
        else:
            results = _run_with_steps(lease.pipeline, lease, asked, batch, outputs, timings)
        return self._encoded(lease, exchange, results, warnings, batch.rows, timings)

    def _encoded(
        self, lease: Lease, exchange: Exchange, results: Outputs, warnings: Warnings, rows: int, timings: Timings
    ) -> bytes:
        """The answer's body, which is counted."""
        content = exchange.encode(Answer.of(lease.manifest, results, warnings))
        timings.ended("encode")
        self._metrics.predicted(lease.manifest.model, lease.manifest.version, OK, rows, timings.total_s)
        return content

    def _failed(self, lease: Lease, error: RetortError) -> None:
        self._metrics.predicted(lease.manifest.model, lease.manifest.version, error.code.value, 0, 0.0)

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
            for at, results in zip(accepted, run_each(lease, list(accepted.values())), strict=True):
                exchange, timings = requests[at]
                timings.ended("run")
                if results is None:
                    continue
                with contextlib.suppress(Exception):  # what cannot be written to one client is no affair of the others
                    answers[at] = self._encoded(lease, exchange, results, warnings[at], accepted[at][0].rows, timings)
        return answers


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
    """As `run`, with the steps of the model before and after."""

    def refusal(wrong: Sequence[tuple[int, str, str]]) -> InvalidInstances:
        names = lease.manifest.signature.names
        return InvalidInstances([_refused(asked, names, *each) for each in wrong[:MOST_ERRORS]], len(wrong))

    with pipeline.visit(batch, asked.instances, refusal) as visit:
        prepared = visit.prepare()
        timings.ended("prepare")
        results = run(lease, prepared, visit.run_for(outputs))
        timings.ended("run")
        finished = visit.finish(results, outputs)
        timings.ended("finish")
    return finished


def _refused(asked: Asked, names: Sequence[str], position: int, name: str, detail: str) -> FieldError:
    """Where in the document the value stands that a step refuses."""
    place, is_row = asked.place(position)
    at = names.index(name) if name in names else -1
    return FieldError(place_of(place, is_row if at >= 0 else False, name, at), detail)


def _output_names(asked: Asked, signature: Signature) -> tuple[str, ...]:
    if asked.outputs is None:
        return signature.defaults
    allowed = ", ".join(signature.outputs)
    refuse(
        FieldError(f"{asked.outputs_pointer}/{position}", f"must be one of: {allowed}", str(name)[:100])
        for position, name in enumerate(asked.outputs)
        if not isinstance(name, str) or name not in signature.outputs
    )
    return tuple(dict.fromkeys(asked.outputs)) or signature.defaults
