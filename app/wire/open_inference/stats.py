"""The statistics extension: what the workers have counted of the requests of this protocol.

Source: Triton's extension_statistics.md (protocols.md 2.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from app.core.tally import Counts, Span, Spent, Tally
from app.telemetry import Timings


def spent(timings: Timings) -> Spent:
    """The phases of a request as this protocol divides them."""
    reading_ns = timings.ns("parse") + timings.ns("validate")
    return Spent(timings.ns("queue"), reading_ns, timings.ns("run"), timings.ns("encode"))


def statistics(versions: Iterable[tuple[str, int]], tally: Tally) -> dict[str, Any]:
    """The statistics object of these versions. Each request is a run of its own here, so runs are successes."""
    return {"model_stats": [_of_version(model, version, tally.of(model, version)) for model, version in versions]}


def _of_version(model: str, version: int, counts: Counts) -> dict[str, Any]:
    spans = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    return {
        "name": model,
        "version": str(version),
        "last_inference": counts.last_ms,
        "inference_count": counts.rows,
        "execution_count": counts.success.count,
        "inference_stats": {
            **{name: _span(getattr(counts, name)) for name in spans},
            "cache_hit": _span(Span()),
            "cache_miss": _span(Span()),
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _span(reading),
                "compute_infer": _span(run),
                "compute_output": _span(writing),
            }
            for rows, (reading, run, writing) in sorted(counts.by_rows.items())
        ],
    }


def _span(span: Span) -> dict[str, int]:
    return {"count": span.count, "ns": span.ns}
