import re
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.equal import differences

pytestmark = pytest.mark.filterwarnings("ignore")

TEXTS = [
    "The quick brown fox jumps over the lazy dog, the DOG sleeps",
    "a b c; one-two three's 3.14 x_y __ _a 42 4",
    "Ünïcödé straße STRASSE ÉCOLE école e\u0301cole naïve",
    "İstanbul ISTANBUL istanbul diyarbakİr İİ abİcd iİ",
    "日本語のテキスト 中文 文本 한국어 ภาษาไทย हिन्दी العربية עברית",
    "ǅ ǆ ǄX ǅx ﬁne ŉ ß ẞẞ ⅣⅣ ①② ½½ x² ٣٤",
    "tab\tnew\nline\r\n nul\x00byte zero\u200bwidth non\u00a0breaking",
    "🙂 emoji 👍🏽 and \U0001d4b2\U0001d4f8\U0001d4fb\U0001d4ed 𐐀𐐨𐐀 mixed🙂word",
    "",
    " ",
    "a",
    "__",
    "the the the quick quick",
    "ΟΔΟΣ οδος ΣΣ Σ the  quick\x85the",
    "New York, new york",
]
LABELS = np.arange(len(TEXTS)) % 2
COUNTS = [
    CountVectorizer(),
    CountVectorizer(binary=True),
    CountVectorizer(lowercase=False),
    CountVectorizer(ngram_range=(1, 2)),
    CountVectorizer(ngram_range=(2, 3)),
    CountVectorizer(stop_words="english"),
    CountVectorizer(vocabulary=["the", "quick", "İ", "abi"]),
    CountVectorizer(max_features=5),
    CountVectorizer(stop_words="english", ngram_range=(1, 2)),
    CountVectorizer(stop_words=["the", "quick"], ngram_range=(2, 3)),
    CountVectorizer(strip_accents="unicode"),
    CountVectorizer(strip_accents="ascii", lowercase=False),
    CountVectorizer(token_pattern=r"(?u)\b\w+\b"),
    CountVectorizer(token_pattern=r"(\w)\w*"),
    CountVectorizer(vocabulary=["New York", "the"]),
    CountVectorizer(vocabulary=["οδος", "οδοσ"]),
    CountVectorizer(analyzer="char"),
    CountVectorizer(analyzer="char", ngram_range=(2, 4), lowercase=False),
    CountVectorizer(analyzer="char_wb", ngram_range=(1, 3)),
    CountVectorizer(analyzer="char_wb", ngram_range=(3, 7), strip_accents="unicode"),
    TfidfVectorizer(),
    TfidfVectorizer(norm="l1", sublinear_tf=True),
    TfidfVectorizer(norm=None, use_idf=False, ngram_range=(1, 2)),
    TfidfVectorizer(smooth_idf=False, binary=True),
]


def frame_of(texts):
    return pd.DataFrame({"feature1": texts}, dtype=object)


@pytest.mark.parametrize("vectorizer", COUNTS, ids=str)
def test_a_vectorizer_equals_its_graph(vectorizer):
    vectorizer.fit(TEXTS)
    assert differences(vectorizer, frame_of(TEXTS)) == []
    for text in TEXTS[:9]:
        assert differences(vectorizer, frame_of([text])) == []
    assert differences(vectorizer, frame_of(["", " "])) == []


def test_words_of_random_texts_equal_their_graph():
    random = np.random.default_rng(0)
    alphabet = [
        *"abcABC  .,-_'0123456789",
        "İ",
        "\u0131",
        "Σ",
        "\u017f",
        "K",
        "Å",
        "\u0307",
        "\u00aa",
        "ß",
        "Ǆ",
        "Ⴀ",
        "Ა",
        "\u13a0",
        "ꭰ",
    ]
    texts = ["".join(random.choice(alphabet, 30)) for _ in range(2000)]
    words = {word for text in texts for word in re.findall(r"\b\w\w+\b", text.lower())}
    vectorizer = CountVectorizer(vocabulary=sorted(words)).fit(texts)
    assert differences(vectorizer, frame_of(texts[:300])) == []


def test_every_character_between_letters_equals_its_graph():
    vectorizer = CountVectorizer(vocabulary=["aa", "bb"])
    points = [point for point in range(1, sys.maxunicode + 1) if not 0xD800 <= point <= 0xDFFF]
    texts = [f"aa{chr(point)}bb" for point in points[:0x3000] + points[0xA000::97]]
    assert differences(vectorizer.fit(texts), frame_of(texts)) == []


def test_a_vectorizer_in_a_pipeline_equals_its_graph():
    model = make_pipeline(CountVectorizer(), TfidfTransformer(sublinear_tf=True), MultinomialNB()).fit(TEXTS, LABELS)
    assert differences(model, frame_of(TEXTS)) == []
    frame = pd.DataFrame({"title": TEXTS, "length": [float(len(text)) for text in TEXTS]})
    columns = make_column_transformer((TfidfVectorizer(), "title"), (StandardScaler(), ["length"]))
    assert differences(make_pipeline(columns, LogisticRegression()).fit(frame, LABELS), frame) == []


@pytest.mark.parametrize(
    "options", [{}, {"norm": "l1"}, {"norm": None, "sublinear_tf": True}, {"use_idf": False}], ids=str
)
def test_tfidf_of_counts_equals_its_graph(options):
    counts = np.random.default_rng(0).poisson(0.4, (60, 8)).astype(float)
    assert differences(TfidfTransformer(**options).fit(counts), counts) == []


@pytest.mark.parametrize(
    ("vectorizer", "reason"),
    [
        (CountVectorizer(tokenizer=str.split, token_pattern=None), "its tokenizer is"),
        (CountVectorizer(preprocessor=str.upper), "its preprocessor is"),
        (CountVectorizer(strip_accents=str.casefold), "it splits texts by a function"),
        (CountVectorizer(analyzer=str.split), "it splits texts by a function"),
        (TfidfVectorizer(dtype=np.float32), "it computes in float32"),
        (HashingVectorizer(n_features=16), "there is no exporter for HashingVectorizer"),
    ],
)
def test_a_vectorizer_without_a_graph_is_refused_with_the_reason(vectorizer, reason):
    with pytest.raises(NotExportable, match=reason):
        differences(vectorizer.fit(TEXTS), frame_of(TEXTS))
