"""Export fitted estimators as ONNX graphs: one function for each class, which reads the fitted attributes.

The exporter of a transformer takes columns and returns columns; that of a predictor returns its outputs by name. To add
one, write the function in the module of its family, under `transformer` or `predictor` with the names of its classes.
Where there is no exact graph for an estimator or one of its options, its exporter raises `NotExportable`. Exporters
need no proof of their own: `app.packing.prove` compares each graph with its estimator.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
