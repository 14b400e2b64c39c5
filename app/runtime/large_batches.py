"""Run large batches of a graph with a faster evaluation of its trees, if the results are equal."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np

from app.runtime.bulk_graph import BulkGraph, bulk_graph
from app.runtime.servable import Servable
from app.signature import Signature
from app.signature.batch import Batch, Outputs

log = logging.getLogger(__name__)

LEAST_ROWS = 512
MANY_ROWS = 4096
"""With many nodes, the BulkGraph is faster only from this number of rows, or never."""
TIMED_RUNS = 3
MOST_GRAPH_BYTES = 2**24


class LargeBatches:
    """Servable of a graph that runs large batches with a `BulkGraph`. Safe to call from many threads.

    The first large batch creates the BulkGraph, in about 0.1 s for a hundred trees. It is used if its outputs equal
    those of the graph to the last bit, at and beside the splits, and if it is faster for the number of rows.

    Args:
        graph: runs all other batches.
        read: returns the bytes of the verified graph.
        signature: the inputs and outputs of both.
    """

    def __init__(self, graph: Servable, read: Callable[[], bytes], signature: Signature) -> None:
        self._graph = graph
        self._read = read
        self._signature = signature
        self._bulk: Servable = graph
        self._least_rows = LEAST_ROWS
        self._has_compared = False
        self._comparing = threading.Lock()

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the requested outputs, equal to those of the graph."""
        if batch.rows < self._least_rows:
            return self._graph.run(batch, outputs)
        if not self._has_compared:
            self._make_bulk_graph(batch, outputs)
        return (self._bulk if batch.rows >= self._least_rows else self._graph).run(batch, outputs)

    def _make_bulk_graph(self, batch: Batch, outputs: Sequence[str]) -> None:
        """Create the BulkGraph, and find the number of rows from which it is faster.

        While another thread does this, batches below `MANY_ROWS` rows do not wait: the graph runs them.
        """
        if not self._comparing.acquire(blocking=batch.rows >= MANY_ROWS):
            return
        try:
            if not self._has_compared:
                model = self._read()
                bulk = bulk_graph(model, self._graph, self._signature) if len(model) <= MOST_GRAPH_BYTES else None
                if bulk is not None:
                    self._compare(bulk, batch, outputs)
                self._has_compared = True
        except Exception as error:  # noqa: BLE001 - the graph can run them too, more slowly
            log.warning("the graph runs large batches: %s", error)
            self._has_compared = True
        finally:
            self._comparing.release()

    def _compare(self, bulk: BulkGraph, batch: Batch, outputs: Sequence[str]) -> None:
        for rows in (LEAST_ROWS, MANY_ROWS):
            rows_of_batch = _resize(batch, rows)
            if _cpu_time_s(bulk, rows_of_batch, outputs) < _cpu_time_s(self._graph, rows_of_batch, outputs):
                self._least_rows, self._bulk = rows, bulk
                return


def _resize(batch: Batch, rows: int) -> Batch:
    """Return a batch of `rows` rows, by repeating or dropping rows of another batch."""
    return Batch({name: np.resize(column, (rows, *column.shape[1:])) for name, column in batch.columns.items()}, rows)


def _cpu_time_s(servable: Servable, batch: Batch, outputs: Sequence[str]) -> float:
    """Return the CPU time of the fastest of `TIMED_RUNS` runs."""
    times_s = []
    for _ in range(TIMED_RUNS):
        began_s = time.thread_time()
        servable.run(batch, outputs)
        times_s.append(time.thread_time() - began_s)
    return min(times_s)
