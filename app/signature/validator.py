"""Turn the instances of a request into a batch, or raise an error for each bad field.

Good instances are not validated one by one: `Kind.column` accepts a whole column, by the same rule (`rule_of`) that the
fields of the schema apply to one value. Only refused rows go to the schema, and only as many as the error reports.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import marshmallow as ma

from app.errors import ABSENT, FieldError, InvalidInstances, TooManyCharacters, TooManyInstances
from app.signature import Layout, Signature
from app.signature.batch import Batch, Column, PredictRequest
from app.signature.decoder import decoder_of
from app.signature.field_errors import (
    MOST_ERRORS,
    escaped,
    hint_for_document,
    hint_for_row,
    hinted,
    in_row,
    one_too_deep,
    place_of,
    shown,
    some,
)
from app.signature.images import PIXEL_LIMIT, one_too_many
from app.signature.json_values import MAX_VALUES
from app.signature.kinds import KINDS, rule_of
from app.signature.records import Nesting, problems
from app.signature.schema import schema_of
from app.signature.watch import Watch

MAX_IMAGE_VALUES = 2**25
"""Most values in all images of a request, as the model sees them. In float64 they take a quarter of a gibibyte."""
MAX_IMAGES = 1000
"""Most images of a request. Opening the smallest takes half a millisecond."""


class Validator:
    """The validator of one signature: it returns a `Batch`, or an error with all bad fields. Immutable, safe to share.

    `out_of_range` applies if the signature leaves it open. `watch` finds accepted values that are new to the model;
    None means that nothing is watched.
    """

    def __init__(
        self,
        signature: Signature,
        max_instances: int,
        out_of_range: str = "ignore",
        pixel_limit: int = PIXEL_LIMIT,
        max_values: int = MAX_VALUES,
        max_text_chars: int = 10**9,
    ) -> None:
        self.signature = signature = _completed(signature, out_of_range, pixel_limit)
        self.watch = Watch(signature) or None
        self._schema = schema_of(signature)
        self._names = frozenset(signature.names)
        self._rules = [(spec.name, rule_of(spec)) for spec in signature.inputs]
        stated = max_instances
        # A small body may hold large images, or the same one many times.
        self._images = [(at, spec) for at, spec in enumerate(signature.inputs) if spec.image is not None]
        if self._images:
            width = sum(spec.width for _, spec in self._images)
            max_instances = min(max_instances, MAX_IMAGE_VALUES // width, MAX_IMAGES // len(self._images))
        self.max_instances = max_instances
        self._limit_is_set = max_instances == stated
        self._decoder = decoder_of(signature, max_instances, max_values)
        self._texts = [spec.name for spec in signature.inputs if spec.kind == "text"]
        self._max_text_chars = max_text_chars
        self._whole = signature.layout is Layout.RECORDS
        self._bare = signature.takes_bare
        self._nesting = Nesting(() if self._whole else signature.names)

    def decode(self, body: bytes) -> PredictRequest | None:
        """Return the batch of a JSON document; None if it needs the slow path."""
        return None if self._decoder is None else self._decoder.decode(body)

    def validate(self, instances: Sequence[Any], pointer: str = "#", single: bool = False) -> Batch:
        """Return the batch of records, rows, or bare values of the only input.

        `pointer` is where the instances stand in the document; a `single` instance stands there itself, not in a list.

        Raises:
            TooManyInstances: there are more rows than the limit.
            InvalidInstances: the error has the first 100 bad fields, and the number of all.
        """
        batch = self.accepted(instances, pointer)
        if batch is None:
            raise self._explain(self._rows(instances), instances, pointer, single)
        return batch

    def accepted(self, instances: Sequence[Any], pointer: str = "#") -> Batch | None:
        """Like `validate`, but return None if a field is bad, without looking for the reason."""
        if len(instances) > self.max_instances:
            raise TooManyInstances(len(instances), self.max_instances, self._limit_is_set)
        rows = self._rows(instances)
        self._require_few_pixels(rows, instances, pointer)
        batch = None if self._decoder is None else self._decoder.batch_of(rows)
        return self._columns(rows) if batch is None else batch

    def require_short_texts(self, batch: Batch, body_bytes: int) -> None:
        """Refuse a batch whose texts are too long together, because splitting them into words would take too long.

        A client may always send as many characters as its body has bytes.

        Args:
            body_bytes: the length of the body as it was received, before it is decompressed.

        Raises:
            TooManyCharacters: the texts have more characters than the limit.
        """
        if not self._texts:
            return
        limit = max(self._max_text_chars, body_bytes)
        columns = [batch.columns[name].ravel().tolist() for name in self._texts]
        chars = sum(len(value) for column in columns for value in column if type(value) is str)
        if chars > limit:
            raise TooManyCharacters(chars, limit)

    def look_acceptable(self, instances: Sequence[Any]) -> list[bool]:
        """Return for each instance whether all of its fields pass the cheap rules."""
        return [not self._count(row) for row in self._rows(instances)]

    def _rows(self, instances: Sequence[Any]) -> Sequence[Any]:
        """Return the instances as rows or flat records."""
        rows = instances
        if self._whole:
            rows = [[instance] if type(instance) is dict else instance for instance in instances]
        elif self._bare and not set(map(type, instances)) <= {dict, list}:
            rows = [instance if type(instance) in (dict, list) else [instance] for instance in instances]
        return [self._nesting.flat(instance) for instance in rows] if self._nesting else rows

    def _require_few_pixels(self, instances: Sequence[Any], sent: Sequence[Any], pointer: str) -> None:
        for at, spec in self._images:
            excess = one_too_many([_value(instance, spec.name, at) for instance in instances], spec)
            if excess is not None:
                position, detail = excess
                error = FieldError(f"{pointer}/{position}{self._place(sent[position], spec.name, at)}", detail)
                raise InvalidInstances([error], 1)

    def _place(self, sent: Any, name: str, at: int) -> str:
        """Return the pointer of an input, relative to its instance."""
        if type(sent) is dict and self._nesting:
            return f"/{self._nesting.places(sent)[name]}"
        return place_of("", in_row(sent), name, at)

    def _columns(self, instances: Sequence[Any]) -> Batch | None:
        """Return the batch, in a few fast passes over each column; None if a field is bad."""
        names = self.signature.names
        types = set(map(type, instances))
        if types <= {dict} and all(row.keys() == self._names for row in instances):
            raw: dict[str, Sequence[Any]] = {name: [row[name] for row in instances] for name in names}
        elif types <= {list} and set(map(len, instances)) <= {len(names)}:
            raw = dict(zip(names, zip(*instances, strict=True), strict=True))
        elif (
            types <= {list, dict}
            and (ordered := [self._row(instance) for instance in instances])
            and None not in ordered
        ):
            raw = dict(zip(names, zip(*ordered, strict=True), strict=True))
        else:
            return None
        columns: dict[str, Column] = {}
        for spec in self.signature.inputs:
            column = KINDS[spec.kind].column(raw[spec.name], spec)
            if column is None:
                return None
            columns[spec.name] = column
        return Batch(columns, len(instances))

    def _row(self, instance: Any) -> list[Any] | None:
        """Return a record or a row as a row; None if it lacks or adds a feature."""
        if type(instance) is dict:
            return [instance[n] for n in self.signature.names] if instance.keys() == self._names else None
        return instance if len(instance) == len(self.signature.names) else None

    def _explain(self, instances: Sequence[Any], sent: Sequence[Any], pointer: str, single: bool) -> InvalidInstances:
        """Return the error of refused instances. The cheap rules count bad fields; marshmallow words the first ones.

        A document that looks like another format as a whole has one error, which says so.
        """
        if not single:
            hint = hint_for_row(sent, self.signature, pointer)
        else:
            hint = hint_for_document(sent[0], self.signature) if len(sent) == 1 and type(sent[0]) is dict else None
        if hint is not None:
            return InvalidInstances([hint], 1)
        total = 0
        errors: list[FieldError] = []
        for position, instance in enumerate(instances):
            bad_fields = self._count(instance)
            total += bad_fields
            if bad_fields and len(errors) < MOST_ERRORS:
                place = pointer if single else f"{pointer}/{position}"
                errors.extend(self._worded(instance, sent[position], place))
        return InvalidInstances(errors[:MOST_ERRORS], total)

    def _count(self, instance: Any) -> int:
        """Count the bad fields of a row or a record. Loops, because they take half as long as generators."""
        bad = 0
        if type(instance) is dict:
            bad = len(self._names) + len(instance) - 2 * len(self._names & instance.keys())
            for name, rule in self._rules:
                if name in instance and rule(instance[name]) is not None:
                    bad += 1
        elif self._whole and type(instance) is list and len(instance) == 1:
            bad = sum(1 for _ in problems(instance[0], self.signature.inputs[0]))
        elif type(instance) is list and len(instance) == len(self._rules):
            for (_, rule), value in zip(self._rules, instance, strict=True):
                if rule(value) is not None:
                    bad += 1
        else:
            bad = 1
        return bad

    def _worded(self, instance: Any, sent: Any, pointer: str) -> Iterator[FieldError]:
        names = self.signature.names
        if self._whole and type(instance) is list and len(instance) == 1:
            pointer = pointer if type(sent) is dict else f"{pointer}/0"
            for tail, detail, value in islice(problems(instance[0], self.signature.inputs[0]), MOST_ERRORS):
                yield FieldError(f"{pointer}/{tail}" if tail else pointer, detail, shown(value))
            return
        if type(instance) is list:
            if len(instance) != len(names):
                detail = f"has {len(instance)} values; a row has {len(names)}, in this order: {some(names)}"
                yield FieldError(pointer, detail + one_too_deep(instance))
                return
            record = dict(zip(names, instance, strict=True))
            place = {name: place_of("", in_row(sent), name, position) for position, name in enumerate(names)}
        elif type(instance) is dict:
            strays = islice((name for name in instance if name not in self._names), MOST_ERRORS)
            record = {name: instance[name] for name in [*filter(instance.__contains__, names), *strays]}
            place = {name: f"/{at}" for name, at in self._nesting.places(sent).items()} if self._nesting else {}
        else:
            detail = f"must be an object (a record) or a list (a row) with these features: {some(names)}"
            yield FieldError(pointer, hinted(detail, instance, self.signature), shown(instance))
            return
        errors = self._field_errors(record)
        order = {name: position for position, name in enumerate(dict.fromkeys([*names, *record]))}
        for name in sorted(errors, key=order.__getitem__)[:MOST_ERRORS]:
            messages = errors[name]
            where = place.get(name, f"/{escaped(name)}")
            yield FieldError(
                f"{pointer}{where}", _sentence(messages), shown(record[name]) if name in record else ABSENT
            )

    def _field_errors(self, record: Mapping[str, Any]) -> dict[Any, Any]:
        """Return the messages for each bad field.

        This does not call `Schema.validate`, which leaves its exception and frames in a reference cycle. A stream of
        bad lines would make so many cycles that collecting them stops all other threads for tens of milliseconds.
        """
        try:
            self._schema.load(record)
        except ma.ValidationError as error:
            error.__traceback__ = None
            return cast("dict[Any, Any]", error.messages)
        return {}


def _completed(signature: Signature, out_of_range: str, pixel_limit: int) -> Signature:
    """Return the signature, completed with the server's settings."""
    inputs = tuple(
        spec
        if spec.image is None
        else replace(spec, image=replace(spec.image, pixel_limit=spec.image.pixel_limit or pixel_limit))
        for spec in signature.inputs
    )
    return replace(signature, inputs=inputs, out_of_range=signature.out_of_range or out_of_range)


def _value(instance: Any, name: str, at: int) -> Any:
    """Return one input of a record or a row; None if it is missing."""
    if type(instance) is dict:
        return instance.get(name)
    return instance[at] if type(instance) is list and at < len(instance) else None


def _sentence(messages: Any) -> str:
    return "; ".join(map(str, messages)) if isinstance(messages, list) else str(messages)
