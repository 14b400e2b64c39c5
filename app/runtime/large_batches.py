"""Run large batches of a graph by another evaluation of its trees, where that is equal and faster."""

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
"""With many nodes the other evaluation is faster only from here on, or never."""
TIMED_RUNS = 3
MOST_GRAPH_BYTES = 2**24


class LargeBatches:
    """The servable of a graph that leaves large batches to a `BulkGraph`. Safe to call from many threads.

    The first large batch makes it, in a tenth of a second for a hundred trees. It is used if it gives what the graph
    gives on both sides of every split, to the last bit, and from the number of rows on where it is faster.

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
        self._is_decided = False
        self._deciding = threading.Lock()

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the requested outputs, as the graph gives them."""
        if batch.rows < self._least_rows:
            return self._graph.run(batch, outputs)
        if not self._is_decided:
            self._decide(batch, outputs)
        return (self._bulk if batch.rows >= self._least_rows else self._graph).run(batch, outputs)

    def _decide(self, batch: Batch, outputs: Sequence[str]) -> None:
        """Make the BulkGraph and find from how many rows on it is faster.

        While another thread does so, only a batch that the graph runs longer than that takes waits for it.
        """
        if not self._deciding.acquire(blocking=batch.rows >= MANY_ROWS):
            return
        try:
            if not self._is_decided:
                model = self._read()
                bulk = bulk_graph(model, self._graph, self._signature) if len(model) <= MOST_GRAPH_BYTES else None
                if bulk is not None:
                    self._compare(bulk, batch, outputs)
                self._is_decided = True
        except Exception as error:  # noqa: BLE001 - the graph runs them as well, if more slowly
            log.warning("large batches are run by the graph: %s", error)
            self._is_decided = True
        finally:
            self._deciding.release()

    def _compare(self, bulk: BulkGraph, batch: Batch, outputs: Sequence[str]) -> None:
        for rows in (LEAST_ROWS, MANY_ROWS):
            rows_of_batch = _of_size(batch, rows)
            if _seconds(bulk, rows_of_batch, outputs) < _seconds(self._graph, rows_of_batch, outputs):
                self._least_rows, self._bulk = rows, bulk
                return


def _of_size(batch: Batch, rows: int) -> Batch:
    """Return a batch of as many rows, made of the rows of another."""
    return Batch({name: np.resize(column, (rows, *column.shape[1:])) for name, column in batch.columns.items()}, rows)


def _seconds(servable: Servable, batch: Batch, outputs: Sequence[str]) -> float:
    """Return the CPU time of the fastest of some runs."""
    found = []
    for _ in range(TIMED_RUNS):
        began_s = time.thread_time()
        servable.run(batch, outputs)
        found.append(time.thread_time() - began_s)
    return min(found)
