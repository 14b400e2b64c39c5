"""One prediction, whatever the protocol: parse, validate, run, encode."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from app.core.answer import Answer
from app.core.event_loop import EventLoop, InThread, OnLoop, Way, completed
from app.core.run import run, run_each
from app.core.series import Series
from app.errors import FieldError, InvalidInstances, RetortError, UnsupportedMediaType
from app.runtime.registry import Lease, Registry
from app.signature import Signature
from app.signature.batch import Batch, Decoded, Outputs
from app.signature.pointers import in_row, place_of
from app.signature.refusals import MOST_ERRORS, refuse
from app.signature.watch import NONE, Warnings
from app.telemetry import Timings, check_deadline, mark_progress


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """What a request asks for, whatever its protocol.

    `pointer` is where the instances stand in the document; a `single` instance stands there itself, not in a list.
    `outputs` are output names at `outputs_pointer`, or None for the model's defaults. `batch` is there where the
    decoder has validated the instances already; `in_rows` then says what `in_row` says of each.
    """

    instances: Sequence[Any]
    pointer: str = "#"
    single: bool = False
    outputs: Sequence[Any] | None = None
    outputs_pointer: str = "#/outputs"
    batch: Batch | None = None
    in_rows: bool | None = False

    @classmethod
    def decoded(cls, decoded: Decoded, outputs: Sequence[Any] | None = None) -> PredictRequest:
        """What a document asks for that the decoder has read; the protocol's `outputs` where it names none."""
        wanted = decoded.outputs or outputs
        return cls((), decoded.pointer, decoded.single, wanted, "#/outputs", decoded.batch, decoded.in_rows)

    def place(self, row: int) -> tuple[str, bool | None]:
        """The pointer of an instance, and whether it is a row, as `in_row` says."""
        is_row = in_row(self.instances[row]) if 0 <= row < len(self.instances) else self.in_rows
        return (self.pointer if self.single else f"{self.pointer}/{row}"), is_row


Decode = Callable[[bytes], Decoded | None]
"""A JSON body in this service's own form as a batch, where that can be told at first sight."""


class ProtocolAdapter(Protocol):
    """Reads one request and writes its answer as a protocol has them. Belongs to one request."""

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Read the body; raises what is wrong with its form. `decode` reads common JSON straight into a batch."""

    def encode(self, answer: Answer) -> bytes:
        """Write the body of the answer."""

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """Move the pointers of an error to the places where the values stood in the body."""


class PredictCall(Protocol):
    """One request on its way through the service, which leaves what came of it here: `content` or `error`."""

    timings: Timings
    model: str
    version: int
    rows: int
    content: bytes
    error: Exception | None

    @property
    def adapter(self) -> ProtocolAdapter:
        """What reads and writes it."""


class PredictService:
    """Answers requests for predictions. Lives as long as the process; safe to call from many threads."""

    def __init__(self, registry: Registry, event_loop: EventLoop | None = None) -> None:
        self._registry = registry
        self.event_loop = event_loop or EventLoop()

    def predict(self, model: str | None, version: str | None, calls: Sequence[PredictCall]) -> None:
        """Answer requests for a model (None: the default one) in a version or alias (None: the current one).

        Each phase is done for all of them before the next. What goes wrong with one is its `error`:
        `ModelNotFound`, `VersionNotFound`, `ModelUnavailable` (there is nothing to ask), `InvalidInstances`,
        `TooManyInstances` (the request is not acceptable), `ModelFailed`, `StepFailed` ... or whatever its adapter
        raised. It raises nothing itself.
        """
        try:
            lease = self._registry.lease(model, version)
        except RetortError as error:
            for call in calls:
                call.error = error
            return
        with lease:
            accepted = [(call, *asked) for call in calls if (asked := _accept(lease, call)) is not None]
            for each, outputs in zip(accepted, self._run(lease, accepted), strict=True):
                _encode(lease, each, outputs)

    async def predict_soon(self, model: str | None, version: str | None, call: PredictCall, is_small: bool) -> None:
        """Like `predict`, for one request on the event loop, which waits there for the steps of its model.

        Everything that computes is done in a thread, except for a small request to a quick graph.
        """
        registry = self._registry
        if not registry.is_awaited(model, version):
            if is_small and version is None and registry.is_quick(model):
                self.predict(model, version, [call])
            elif model in registry.with_steps:
                await self.event_loop.block(self.predict, model, version, [call])
            else:
                await self.event_loop.compute(self.predict, model, version, [call])
            return
        try:
            lease = registry.lease(model, version)
        except RetortError as error:
            call.error = error
            return
        way = OnLoop(self.event_loop, is_small and lease.is_quick)
        with lease:
            asked = await way.compute(_accept, lease, call)
            if asked is not None:
                accepted = (call, *asked)
                outputs = await _run_with_steps(lease, accepted, way)
                await way.compute(_encode, lease, accepted, outputs)

    def _run(self, lease: Lease, accepted: Sequence[Accepted]) -> Sequence[Outputs | Exception]:
        """Return the outputs of each accepted call, or why there are none."""
        if lease.pipeline is not None:
            return [completed(_run_with_steps(lease, each, InThread(self.event_loop))) for each in accepted]
        found = run_each(lease, [(batch, outputs) for _, _, batch, outputs, _ in accepted])
        for call, *_ in accepted:
            call.timings.ended("run")
        return found

    def series(self, model: str | None, version: str | None) -> Series:
        """Return what answers one block of instances after another, all of one version; to be closed.

        Raises:
            ModelNotFound, VersionNotFound, ModelUnavailable: there is nothing to ask.
            UnsupportedMediaType: the model has steps, which take whole requests.
        """
        lease = self._registry.lease(model, version)
        if lease.pipeline is not None:
            because = f"model {lease.manifest.model} has steps, which take whole requests and no streams"
            raise UnsupportedMediaType("application/x-ndjson", ["application/json"], because=because)
        return Series(lease)


Accepted = tuple[PredictCall, PredictRequest, Batch, tuple[str, ...], Warnings]


def _accept(lease: Lease, call: PredictCall) -> tuple[PredictRequest, Batch, tuple[str, ...], Warnings] | None:
    """Return what a call asks for: as a batch, the names of the outputs, and what in it is new to the model.

    None where it is not acceptable, which its `error` says.
    """
    manifest, timings = lease.manifest, call.timings
    call.model, call.version = manifest.model, manifest.version
    # Steps take the instances, which the decoder does not keep.
    decode = lease.validator.decode if lease.pipeline is None else _undecoded
    try:
        check_deadline()
        asked = call.adapter.parse(manifest.signature, decode)
        timings.ended("parse")
        outputs = _output_names(asked, manifest.signature)
        batch = asked.batch or lease.validator.validate(asked.instances, asked.pointer, asked.single)
        watch = lease.validator.watch
        warnings = NONE if watch is None else watch.check(batch, asked.place)
    except Exception as error:  # noqa: BLE001
        call.error = call.adapter.located(error) if isinstance(error, InvalidInstances) else error
        return None
    timings.ended("validate")
    call.rows = batch.rows
    return asked, batch, outputs, warnings


def _encode(lease: Lease, accepted: Accepted, outputs: Outputs | Exception) -> None:
    """Leave the answer to a call in it, or its error."""
    call, *_, warnings = accepted
    if isinstance(outputs, Exception):
        call.error = outputs
        return
    try:
        call.content = call.adapter.encode(Answer.of(lease.manifest, outputs, warnings))
    except Exception as error:  # noqa: BLE001 - what cannot be written to one client does not concern the others
        call.error = error
    mark_progress()
    call.timings.ended("encode")


def _undecoded(body: bytes) -> Decoded | None:
    return None


async def _run_with_steps(lease: Lease, accepted: Accepted, way: Way) -> Outputs | Exception:
    """Run the model with its steps before and after."""
    call, asked, batch, outputs, _ = accepted
    timings = call.timings

    def refusal(wrong: Sequence[tuple[int, str, str]]) -> InvalidInstances:
        names = lease.manifest.signature.names
        errors = [_refused(asked, names, *each) for each in wrong[:MOST_ERRORS]]
        return call.adapter.located(InvalidInstances(errors, len(wrong)))

    if batch.rows == 0 or lease.pipeline is None:
        return run(lease, batch, outputs)
    try:
        async with lease.pipeline.visit(refusal, way) as visit:
            prepared = await visit.prepare(batch, asked.instances)
            timings.ended("prepare")
            results = await way.compute(run, lease, prepared, visit.run_for(outputs))
            timings.ended("run")
            finished = await visit.finish(results, outputs)
            timings.ended("finish")
    except Exception as error:  # noqa: BLE001
        return error
    return finished


def _refused(asked: PredictRequest, names: Sequence[str], position: int, name: str, detail: str) -> FieldError:
    """Where in the document the value stands that a step refuses."""
    place, is_row = asked.place(position)
    at = names.index(name) if name in names else -1
    return FieldError(place_of(place, is_row if at >= 0 else False, name, at), detail)


def _output_names(asked: PredictRequest, signature: Signature) -> tuple[str, ...]:
    if asked.outputs is None:
        return signature.defaults
    allowed = ", ".join(signature.outputs)
    refuse(
        FieldError(f"{asked.outputs_pointer}/{position}", f"must be one of: {allowed}", str(name)[:100])
        for position, name in enumerate(asked.outputs)
        if not isinstance(name, str) or name not in signature.outputs
    )
    return tuple(dict.fromkeys(asked.outputs)) or signature.defaults
