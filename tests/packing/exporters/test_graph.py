import numpy as np
import pytest
from sklearn.naive_bayes import GaussianNB

from app.packing.exporters.graph import Graph, NotExportable

ROWS = np.array([[1.0, 5.0], [-3.0, 2.0], [100.0, 0.5]])


def test_a_class_without_an_exporter_is_named():
    class Derived(GaussianNB):
        """A subclass may compute something else than its base class."""

    graph = Graph()
    graph.predict(GaussianNB().fit(ROWS, [0, 1, 1]), (graph.input("x", "float64", 2),))
    with pytest.raises(NotExportable, match=r"^there is no exporter for Derived$"):
        graph.predict(Derived().fit(ROWS, [0, 1, 1]), (graph.input("more", "float64", 2),))
