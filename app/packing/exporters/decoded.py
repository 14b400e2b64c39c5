"""A classifier that predicts positions, decoded by labels."""

from __future__ import annotations

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Predict
from app.runtime.decoded import Decoded


def decoded(g: Graph, est: Decoded, features: Features) -> Outputs:
    """Decoded.predict: the labels at the positions that the estimator predicts.

    Raises:
        NotExportable: The estimator predicts several columns.
    """
    outputs = dict(g.predict(est.estimator, features))
    positions = g.cast(outputs["prediction"], "int64")
    if positions.width not in (None, 1):
        raise NotExportable("it predicts several columns, and there is one column of labels")
    index = positions if positions.width is None else g.pick(positions, 0)
    return outputs | {"prediction": g.labels(np.asarray(est.labels), index)}


PREDICTORS: dict[str, Predict] = {"app.Decoded": decoded}
