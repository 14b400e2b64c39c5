"""Check the declared sizes in Parquet and Arrow files before pyarrow reads them, as `app.wire` does for request bodies.

A file of a job may be large and is read in pieces. So the limits apply to each page and each batch, not to the file.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from app.errors import BodyTooLarge, InvalidBody, ScoringRefused, TooManyInstances
from app.jobs.checked_pages import CheckedPages, ChunkPlaces, Window
from app.jobs.formats import require_content
from app.jobs.locations import Source
from app.signature.arrow_messages import FILE_MAGIC, DeclaredLimits, FileCheck, check_stream
from app.signature.arrow_values import viewed_bytes
from app.signature.parquet_pages import chunks_of, footer_of

PIECE_BYTES = 2**28
"""Most bytes of one page or batch after decompression, and of one column's texts in a batch."""
PARTS = 20
"""Factor on the limits for request bodies. It allows 60,000 column chunks, 240,000 pages and 400,000 batches."""
MAX_ROWS = 2**32
LIMITS = DeclaredLimits(PIECE_BYTES, 2**62, MAX_ROWS, PARTS)
MOST_FORMS = 4
ARROW = (FILE_MAGIC, b"\xff\xff\xff\xff")
BEGINS = {"parquet": (b"PAR1",), "arrow": ARROW, "arrows": ARROW}
MAGIC_BYTES = 8

_forms: dict[object, ParquetForm] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class ParquetForm:
    """The checked footer of a Parquet file: metadata, schema, names of text columns, and the chunks of used columns."""

    metadata: Any
    schema: Any
    texts: Sequence[str]
    places: ChunkPlaces


def open_parquet(source: Source, stream: BinaryIO, used: Collection[str]) -> tuple[Any, Any]:
    """Open a Parquet file, and return it with its schema. Columns of text are read as dictionaries.

    Reading raises InvalidBody or BodyTooLarge at a page whose header exceeds the limits.

    Raises:
        ScoringRefused: The footer exceeds the limits or is inconsistent.
    """
    import pyarrow.parquet as pq

    form = _cached_form(source, stream, frozenset(used))
    checked = CheckedPages(stream, form.places, source.size_bytes, LIMITS)
    options: Any = {"read_dictionary": form.texts, "pre_buffer": False, "buffer_size": 2**20}
    return pq.ParquetFile(checked, metadata=form.metadata, **options), form.schema


def _read_form(source: Source, stream: BinaryIO, used: Collection[str]) -> ParquetForm:
    import pyarrow.parquet as pq

    try:
        footer = footer_of(Window(stream, source.size_bytes), LIMITS)
        opened = pq.ParquetFile(stream, pre_buffer=False)
        metadata = opened.metadata
        if metadata.num_rows > MAX_ROWS:
            raise TooManyInstances(metadata.num_rows, MAX_ROWS)
        columns = [metadata.schema.column(at) for at in range(metadata.num_columns)]
        widths = [column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8 for column in columns]
        is_used = [column.path.partition(".")[0] in used for column in columns]
        chunks = chunks_of(footer, widths, LIMITS)
    except (InvalidBody, BodyTooLarge, TooManyInstances) as error:
        _require_own_content(source, stream)
        raise refusal_of(source, error) from None
    texts = [
        column.path
        for column, is_read in zip(columns, is_used, strict=True)
        if is_read and column.physical_type == "BYTE_ARRAY" and column.logical_type.type != "DECIMAL"
    ]
    places = ChunkPlaces([chunk for at, chunk in enumerate(chunks) if is_used[at % len(columns)]])
    return ParquetForm(metadata, opened.schema_arrow, texts, places)


class ArrowGuard:
    """Checks for an Arrow file and its batches. Each method raises ScoringRefused if a limit is exceeded."""

    def __init__(self, source: Source, stream: BinaryIO) -> None:
        self._source = source
        self._stream = stream
        with _checks_as_refusals(source, stream):
            self._check = FileCheck(Window(stream, source.size_bytes), LIMITS)

    def rows(self) -> list[int]:
        """Return the number of rows of each batch."""
        with _checks_as_refusals(self._source, self._stream):
            return self._check.rows()

    def check(self, number: int) -> None:
        """Check a batch before it is read."""
        with _checks_as_refusals(self._source, self._stream):
            self._check.check(number)


def check_arrow_stream(source: Source, stream: BinaryIO) -> None:
    """Check a file in Arrow's stream format.

    Raises:
        ScoringRefused: The file exceeds the limits or is inconsistent.
    """
    with _checks_as_refusals(source, stream):
        check_stream(Window(stream, source.size_bytes), LIMITS)


@contextmanager
def _checks_as_refusals(source: Source, stream: BinaryIO) -> Iterator[None]:
    """Turn the errors of a check into ScoringRefused, and move the stream back to its beginning."""
    try:
        yield
    except (InvalidBody, BodyTooLarge, TooManyInstances) as error:
        _require_own_content(source, stream)
        raise refusal_of(source, error) from None
    except ValueError:
        _require_own_content(source, stream)
        raise ScoringRefused(
            f"{source.name} cannot be read: it is damaged, or its header contradicts its content"
        ) from None
    finally:
        stream.seek(0)


def _cached_form(source: Source, stream: BinaryIO, used: frozenset[str]) -> ParquetForm:
    """Return the form of a file. It is cached, because a worker reads many stretches of one file."""
    key = source.key, used
    with _lock:
        form = _forms.get(key)
    if form is None:
        form = _read_form(source, stream, used)
        with _lock:
            _forms[key] = form
            while len(_forms) > MOST_FORMS:
                _forms.pop(next(iter(_forms)))
    return form


def _require_own_content(source: Source, stream: BinaryIO) -> None:
    """After a failed check, refuse a file whose first bytes belong to another format, with that reason."""
    stream.seek(0)
    begin, form = stream.read(MAGIC_BYTES), source.format
    require_content(source.name, begin, form)
    if not begin.startswith(BEGINS[form.name]):
        raise ScoringRefused(f"{source.name}: the name says {form.suffix}, but the content is something else")


def refusal_of(source: Source, error: InvalidBody | BodyTooLarge | TooManyInstances) -> ScoringRefused:
    """Return the ScoringRefused for a file that failed a check."""
    if isinstance(error, InvalidBody):
        return ScoringRefused(f"{source.name} cannot be read: {error.reason}")
    if isinstance(error, BodyTooLarge):
        return ScoringRefused(f"{source.name} cannot be read: a page or batch of it is longer than {PIECE_BYTES} bytes")
    return ScoringRefused(f"{source.name} cannot be read: it has more than {MAX_ROWS} rows")


def check_batches(batches: Iterator[Any], schema: Any, source: Source) -> Iterator[Any]:
    """Check batches, cast their columns to the types of the schema, and yield them.

    Raises:
        ScoringRefused: The values of a column share bytes, and copies of them would take more than `PIECE_BYTES`.
    """
    import pyarrow as pa

    for batch in batches:
        batch.validate()
        columns = []
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            _check_shared(column, name, source)
            columns.append(_cast(column, schema.field(name).type))
        yield pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _cast(column: Any, arrow_type: Any) -> Any:
    if column.type == arrow_type:
        return column
    # pyarrow cannot cast a dictionary to a view type.
    return (column.dictionary_decode() if hasattr(column, "dictionary_decode") else column).cast(arrow_type)


def _check_shared(column: Any, name: str, source: Source) -> None:
    import pyarrow as pa

    types, arrow_type = pa.types, column.type
    if types.is_list_view(arrow_type) or types.is_large_list_view(arrow_type) or types.is_run_end_encoded(arrow_type):
        raise ScoringRefused(f"{source.name} cannot be read: {name!r} is a column of the type {str(arrow_type)[:100]}")
    size_bytes = viewed_bytes(column)
    if types.is_dictionary(arrow_type):
        values = column.dictionary
        variable_types = (types.is_string, types.is_large_string, types.is_binary, types.is_large_binary)
        if any(is_variable(values.type) for is_variable in variable_types):
            import pyarrow.compute as pc  # takes 80 ms, in each worker process

            size_bytes = pc.sum(pc.binary_length(values).cast(pa.int64()).take(column.indices)).as_py() or 0
        elif not (types.is_primitive(values.type) or types.is_decimal(values.type)):
            size_bytes = max(values.nbytes, size_bytes) * len(column)
    if size_bytes > PIECE_BYTES:
        raise ScoringRefused(
            f"{source.name} cannot be read: {len(column)} values of {name!r} are together longer than "
            f"{PIECE_BYTES} bytes"
        )
