"""Check that sending the sample as JSON does not change the answers of the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from app.errors import PackingRefused
from app.packing import sample
from app.packing.inputs import as_trained, records_of
from app.packing.probe import MAX_SAMPLE_ROWS, attempt
from app.runtime.proving import same
from app.runtime.servable import ArtifactServable, call
from app.signature import Layout, Signature
from app.signature.batch import json_values
from app.signature.schema import Validator


def require_fidelity(estimator: Any, signature: Signature, frame: pd.DataFrame) -> None:
    """Compare the answers to the sample sent as JSON with those of the estimator to the sample itself.

    Args:
        estimator: The fitted model.
        signature: Its signature.
        frame: The sample, with the dtypes that are declared.

    Raises:
        PackingRefused: they differ, so that serving would not give the notebook's predictions.
    """
    frame = sample.fitted_to(frame, None if signature.layout is not Layout.FRAME else signature.names, None)
    frame = frame.dropna() if attempt(estimator, signature, records_of(frame, signature.names)) else frame
    frame = frame[:MAX_SAMPLE_ROWS]
    if frame.empty or attempt(estimator, signature, records_of(frame, signature.names)):
        return
    batch = Validator(signature, MAX_SAMPLE_ROWS).validate(records_of(frame, signature.names))
    frame = as_trained(frame, signature)
    served = json_values(ArtifactServable(estimator, signature).run(batch, ["prediction"])["prediction"])
    features = {
        Layout.FRAME: frame,
        Layout.MATRIX: np.ascontiguousarray(frame),
        Layout.SEQUENCE: frame.iloc[:, 0].to_numpy(),
    }
    try:
        wanted = json_values(np.asarray(call(estimator, "prediction", features[signature.layout])))
    except Exception:  # noqa: BLE001 (around run: a file may hold other types than training did, NaN for None)
        return
    for row, (was, now) in enumerate(zip(wanted, served, strict=True)):
        if not same(was, now):
            raise PackingRefused(
                f"through JSON the model gives {str(now)[:80]} for row {row} of the sample, on the sample itself "
                f"{str(was)[:80]}: the sample's types or its index cannot be sent as JSON"
            )
