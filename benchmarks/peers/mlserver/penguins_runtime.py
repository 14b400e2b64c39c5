import numpy as np
from mlserver_sklearn import SKLearnModel


class Penguins(SKLearnModel):
    """The imputers were fitted on NaN, not on None: the one line that MLServer's own runtime lacks for this model."""

    def decode_request(self, inference_request, default_codec=None):
        return super().decode_request(inference_request, default_codec).fillna(np.nan)
