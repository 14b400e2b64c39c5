"""Export fitted estimators as ONNX graphs: one function for each class, which reads the fitted attributes.

The exporter of a transformer takes and returns columns; the exporter of a predictor returns outputs by name. To add an
exporter, write the function in the module of its family and decorate it with `transformer` or `predictor` and the names
of its classes. Its docstring begins with the method of scikit-learn that it computes. An exporter raises
`NotExportable` if its estimator, or an option of it, has no exact graph. `app.packing.prove` compares each graph with
its estimator, so an exporter needs no proof.
"""

from importlib import import_module
from pkgutil import iter_modules

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")
