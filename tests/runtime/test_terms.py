"""Terms and their counts equal those of scikit-learn's vectorizers."""

import numpy as np
import pytest
from sklearn.feature_extraction.text import CountVectorizer

from app.runtime.terms import TermCounter

TEXTS = ["the cat, the hat", "", "Ünïcödé école  ÉCOLE", "a\tb\x85 c", "x", "New York, new york the cat"]
OPTIONS = [
    {},
    {"ngram_range": (2, 3)},
    {"ngram_range": (1, 3), "stop_words": ("the", "new")},
    {"strip_accents": "unicode"},
    {"strip_accents": "ascii", "lowercase": False},
    {"token_pattern": r"(\w)\w*"},
    {"analyzer": "char", "ngram_range": (1, 4)},
    {"analyzer": "char_wb", "ngram_range": (2, 9)},
]


def counter(vocabulary, **options):
    defaults = {
        "analyzer": "word",
        "ngram_range": (1, 1),
        "lowercase": True,
        "strip_accents": None,
        "token_pattern": r"(?u)\b\w\w+\b",
        "stop_words": (),
    }
    return TermCounter("text", vocabulary, **(defaults | options))


def dense(found, width):
    columns, counts = found
    filled = np.zeros((len(columns), width + 1))
    for row in range(len(columns)):
        np.add.at(filled[row], columns[row], counts[row])
    return filled[:, :width]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_counts_equal_those_of_the_vectorizer(options):
    known = options | ({"stop_words": [*options["stop_words"]]} if "stop_words" in options else {})
    vectorizer = CountVectorizer(**known).fit(TEXTS)
    vocabulary = {term: int(column) for term, column in vectorizer.vocabulary_.items()}
    counted = dense(counter(vocabulary, **options).counts(TEXTS), len(vocabulary))
    assert np.array_equal(counted, vectorizer.transform(TEXTS).toarray())


def test_a_text_with_fewer_terms_is_padded_with_an_unused_column():
    columns, counts = counter({"cat": 0, "hat": 1}).counts(["cat hat cat", "hat", "dog"])
    assert columns.tolist() == [[0, 1], [1, 2], [2, 2]]
    assert counts.tolist() == [[2, 1], [1, 0], [0, 0]]


def test_texts_without_a_known_term_have_one_unused_column():
    columns, counts = counter({"cat": 0}).counts(["", "dog"])
    assert columns.tolist() == [[1], [1]]
    assert counts.tolist() == [[0], [0]]
