"""Serve predictions for any protocol: parse, validate, run, encode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.core.answer import Answer
from app.core.run import PredictionStream, TurnRuns, run, run_each
from app.core.steps.event_loop import EventLoop, LoopRunner, StepRunner, ThreadRunner, completed
from app.errors import FieldError, InvalidInstances, RetortError, TooManyExplanations, UnsupportedMediaType
from app.runtime.entry import Lease
from app.runtime.registry import Registry
from app.signature import EXPLANATION, Signature
from app.signature.batch import Batch, Decode, Outputs, PredictRequest
from app.signature.field_errors import MOST_ERRORS, place_of, refuse
from app.signature.watch import NO_WARNINGS, Warnings
from app.telemetry import Timings, check_deadline, mark_progress


class ProtocolAdapter(Protocol):
    """The parser of one request, and the encoder of its answer, in the form of a protocol."""

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Parse the body, or raise an error about its form. `decode` reads common JSON into a batch."""

    def encode(self, answer: Answer) -> bytes:
        """Return the body of the answer."""

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """Return the error with pointers into the body of this protocol."""


class PredictCall(Protocol):
    """One request on its way through the service, which sets `content` or `error`."""

    timings: Timings
    model: str
    version: int
    rows: int
    content: bytes
    error: Exception | None

    @property
    def body_bytes(self) -> int:
        """The length of the body as it was received, before it is decompressed."""

    @property
    def adapter(self) -> ProtocolAdapter:
        """The adapter that parses the request and encodes its answer."""


class PredictService:
    """Predictions for requests of any protocol. Lives as long as the process; safe to call from many threads."""

    def __init__(self, registry: Registry, event_loop: EventLoop | None = None) -> None:
        self._registry = registry
        self.event_loop = event_loop or EventLoop()
        self._turn_runs = TurnRuns()

    def predict(self, model: str | None, version: str | None, calls: Sequence[PredictCall]) -> None:
        """Answer requests for one model version. Each phase runs for all requests before the next phase.

        This never raises: it sets the `error` of a call. That is ModelNotFound, VersionNotFound or ModelUnavailable if
        no version can answer, InvalidInstances or TooManyInstances if the request is not valid, ModelFailed,
        StepFailed, or any exception of the adapter.

        Args:
            model: None for the default model.
            version: a number or an alias; None for the current version.
            calls: the requests.
        """
        try:
            lease = self._registry.lease(model, version)
        except RetortError as error:
            for call in calls:
                call.error = error
            return
        with lease:
            accepted = [(call, *parsed) for call in calls if (parsed := _accept(lease, call)) is not None]
            for request, outputs in zip(accepted, self._run(lease, accepted), strict=True):
                _encode(lease, request, outputs)

    async def predict_async(self, model: str | None, version: str | None, call: PredictCall, is_small: bool) -> None:
        """Like `predict`, for one request on the event loop, where it awaits the model's steps.

        Computation runs in a thread, except for a small request to a quick graph. Such requests share a run if their
        steps end in the same turn of the loop.
        """
        registry = self._registry
        if not registry.is_awaited(model, version):
            current = registry.current(model)
            has_steps = current is not None and current.steps is not None
            is_inline = current is not None and current.is_inline and not registry.may_load(model)
            if is_small and version is None and is_inline:
                self.predict(model, version, [call])
            elif has_steps:
                await self.event_loop.block(self.predict, model, version, [call])
            else:
                await self.event_loop.compute(self.predict, model, version, [call])
            return
        try:
            lease = registry.lease(model, version)
        except RetortError as error:
            call.error = error
            return
        is_quick = is_small and lease.is_quick
        runner = LoopRunner(self.event_loop, is_quick)
        with lease:
            parsed = await runner.compute(_accept, lease, call)
            if parsed is not None:
                accepted = (call, *parsed)
                outputs = await _run_with_steps(lease, accepted, runner, self._turn_runs if is_quick else None)
                await runner.compute(_encode, lease, accepted, outputs)

    def _run(self, lease: Lease, accepted: Sequence[Accepted]) -> Sequence[Outputs | Exception]:
        """Return the outputs of each accepted call, or its error."""
        if lease.steps is not None:
            return [completed(_run_with_steps(lease, request, ThreadRunner(self.event_loop))) for request in accepted]
        results = run_each(lease, [(batch, names) for _, _, batch, names, _ in accepted])
        for call, *_ in accepted:
            call.timings.ended("run")
        return results

    def open_stream(self, model: str | None, version: str | None) -> PredictionStream:
        """Return a stream that answers blocks of instances with one version. The caller closes it.

        Raises:
            ModelNotFound, VersionNotFound, ModelUnavailable: no version can answer.
            UnsupportedMediaType: the model has steps, which take whole requests.
        """
        lease = self._registry.lease(model, version)
        if lease.steps is None:
            return PredictionStream(lease)
        with lease:
            because = f"model {lease.manifest.model} has steps, which take whole requests and no streams"
            raise UnsupportedMediaType("application/x-ndjson", ["application/json"], because=because)


Accepted = tuple[PredictCall, PredictRequest, Batch, tuple[str, ...], Warnings]
"""A valid request: its call, its parsed form, its batch, the names of the requested outputs, and the warnings."""


def _accept(lease: Lease, call: PredictCall) -> tuple[PredictRequest, Batch, tuple[str, ...], Warnings] | None:
    """Return the parsed request, its batch, the output names and the warnings; None after setting `call.error`."""
    manifest, timings = lease.manifest, call.timings
    call.model, call.version = manifest.model, manifest.version
    # Steps need the instances, but the decoder keeps only the batch.
    decode = lease.validator.decode if lease.steps is None else (lambda body: None)
    try:
        check_deadline()
        request = call.adapter.parse(manifest.signature, decode)
        timings.ended("parse")
        outputs = _output_names(request, manifest.signature)
        batch = request.batch or lease.validator.validate(request.instances, request.pointer, request.single)
        lease.validator.require_short_texts(batch, call.body_bytes)
        if EXPLANATION in outputs and batch.rows > lease.most_explained:
            raise TooManyExplanations(batch.rows, lease.most_explained)
        watch = lease.validator.watch
        warnings = NO_WARNINGS if watch is None else watch.check(batch, request.place)
    except Exception as error:  # noqa: BLE001
        call.error = call.adapter.located(error) if isinstance(error, InvalidInstances) else error
        return None
    timings.ended("validate")
    call.rows = batch.rows
    return request, batch, outputs, warnings


def _encode(lease: Lease, accepted: Accepted, outputs: Outputs | Exception) -> None:
    """Set the content of a call, or its error."""
    call, *_, warnings = accepted
    if isinstance(outputs, Exception):
        call.error = outputs
        return
    try:
        call.content = call.adapter.encode(Answer.of(lease.manifest, outputs, warnings))
    except Exception as error:  # noqa: BLE001 - a failure to encode one answer must not affect the others
        call.error = error
    mark_progress()
    call.timings.ended("encode")


async def _run_with_steps(
    lease: Lease, accepted: Accepted, runner: StepRunner, turn_runs: TurnRuns | None = None
) -> Outputs | Exception:
    """Run the steps before, the model and the steps after. `turn_runs` joins the run with those of other requests."""
    call, request, batch, outputs, _ = accepted
    timings = call.timings

    def refusal(wrong: Sequence[tuple[int, str, str]]) -> InvalidInstances:
        names = lease.manifest.signature.names
        errors = [_field_error(request, names, *value) for value in wrong[:MOST_ERRORS]]
        return call.adapter.located(InvalidInstances(errors, len(wrong)))

    if batch.rows == 0 or lease.steps is None:
        return run(lease, batch, outputs)
    try:
        async with lease.steps.start(refusal, runner) as steps:
            prepared = await steps.prepare(batch, request.instances)
            timings.ended("prepare")
            names = steps.outputs_to_run(outputs)
            if turn_runs is None:
                results = await runner.compute(run, lease, prepared, names)
            else:
                results = await turn_runs.run(lease, prepared, names)
            timings.ended("run")
            finished: Outputs = await steps.finish(results, outputs)
            timings.ended("finish")
    except Exception as error:  # noqa: BLE001
        return error
    return finished


def _field_error(request: PredictRequest, names: Sequence[str], position: int, name: str, detail: str) -> FieldError:
    """Return the error for a value that a step refuses, with its place in the document."""
    place, is_row = request.place(position)
    at = names.index(name) if name in names else -1
    return FieldError(place_of(place, is_row if at >= 0 else False, name, at), detail)


def _output_names(request: PredictRequest, signature: Signature) -> tuple[str, ...]:
    if request.outputs is None:
        return signature.defaults
    allowed = ", ".join(signature.outputs)
    refuse(
        FieldError(f"{request.outputs_pointer}/{position}", f"must be one of: {allowed}", str(name)[:100])
        for position, name in enumerate(request.outputs)
        if not isinstance(name, str) or name not in signature.outputs
    )
    return tuple(dict.fromkeys(request.outputs)) or signature.defaults
