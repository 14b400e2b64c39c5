"""Pipelines with options that later releases of scikit-learn lack or compute differently, each with its table.

`make versions` fits them with a release that has the option. Other releases refuse to fit them.
"""

from collections.abc import Callable

from sklearn.ensemble import (
    AdaBoostClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import (
    GammaRegressor,
    LogisticRegression,
    LogisticRegressionCV,
    PassiveAggressiveClassifier,
    PoissonRegressor,
    SGDClassifier,
    SGDRegressor,
    TweedieRegressor,
)
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, NuSVC

from . import tables
from .pipelines import Recipe


def logistic_liblinear() -> Recipe:
    """Three classes by liblinear, one versus rest: refused since 1.8."""
    return Recipe(make_pipeline(StandardScaler(), LogisticRegression(solver="liblinear")), tables.iris())


def logistic_one_vs_rest() -> Recipe:
    """Three classes with `multi_class="ovr"`: probabilities are normalized sigmoids, not a softmax."""
    return Recipe(make_pipeline(StandardScaler(), LogisticRegression(multi_class="ovr")), tables.iris())


def logistic_multinomial() -> Recipe:
    """Two classes with `multi_class="multinomial"`: the probability is a softmax of both signs of the score."""
    table = tables.iris_binary()
    return Recipe(make_pipeline(StandardScaler(), LogisticRegression(multi_class="multinomial")), table)


def logistic_cv_one_vs_rest() -> Recipe:
    """One versus rest with a search for `C`."""
    return Recipe(LogisticRegressionCV(Cs=3, cv=3, multi_class="ovr", max_iter=500), tables.iris())


def ada_boost_of_scores() -> Recipe:
    """`algorithm="SAMME.R"`, the default until 1.6: trees vote with the logarithms of their probabilities."""
    return Recipe(AdaBoostClassifier(n_estimators=8, algorithm="SAMME.R", random_state=0), tables.iris())


def ada_boost_of_labels() -> Recipe:
    """`algorithm="SAMME"`: trees vote with their labels."""
    return Recipe(AdaBoostClassifier(n_estimators=8, algorithm="SAMME", random_state=0), tables.iris())


def text_naive_bayes() -> Recipe:
    """TF-IDF and naive Bayes."""
    return Recipe(make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), MultinomialNB()), tables.reviews())


def text_sublinear() -> Recipe:
    """TF-IDF with logarithms of the counts, without idf."""
    vectorizer = TfidfVectorizer(sublinear_tf=True, use_idf=False)
    return Recipe(make_pipeline(vectorizer, LogisticRegression()), tables.reviews())


def boosting_exponential() -> Recipe:
    """Two classes by the exponential loss."""
    boosting = GradientBoostingClassifier(loss="exponential", n_estimators=10, random_state=0)
    return Recipe(boosting, tables.iris_binary())


def boosting_huber() -> Recipe:
    """Robust loss that starts at a quantile."""
    return Recipe(GradientBoostingRegressor(loss="huber", n_estimators=10, random_state=0), tables.diabetes())


def boosting_quantile() -> Recipe:
    """Quantile of the target."""
    return Recipe(GradientBoostingRegressor(loss="quantile", n_estimators=10, random_state=0), tables.diabetes())


def boosting_poisson() -> Recipe:
    """Histogram boosting with a log link."""
    return Recipe(HistGradientBoostingRegressor(loss="poisson", max_iter=10, random_state=0), tables.diabetes())


def poisson() -> Recipe:
    """Linear model of Poisson counts with a log link."""
    return Recipe(make_pipeline(StandardScaler(), PoissonRegressor()), tables.diabetes())


def gamma() -> Recipe:
    """Linear model of the gamma distribution with a log link."""
    return Recipe(make_pipeline(StandardScaler(), GammaRegressor()), tables.diabetes())


def tweedie() -> Recipe:
    """Linear model between Poisson and gamma."""
    return Recipe(make_pipeline(StandardScaler(), TweedieRegressor(power=1.5)), tables.diabetes())


def sgd_log_loss() -> Recipe:
    """Three classes by stochastic gradient descent: normalized sigmoids."""
    return Recipe(make_pipeline(StandardScaler(), SGDClassifier(loss="log_loss", random_state=0)), tables.iris())


def sgd_modified_huber() -> Recipe:
    """Three classes by stochastic gradient descent: clipped scores."""
    return Recipe(make_pipeline(StandardScaler(), SGDClassifier(loss="modified_huber", random_state=0)), tables.iris())


def sgd_huber() -> Recipe:
    """Regression by stochastic gradient descent."""
    return Recipe(make_pipeline(StandardScaler(), SGDRegressor(loss="huber", random_state=0)), tables.diabetes())


def passive_aggressive() -> Recipe:
    """Classifier that a later release removes."""
    return Recipe(make_pipeline(StandardScaler(), PassiveAggressiveClassifier(random_state=0)), tables.iris())


def support_vectors_with_probabilities() -> Recipe:
    """`probability=True`, deprecated since 1.9: Platt's sigmoids, coupled."""
    return Recipe(make_pipeline(StandardScaler(), SVC(probability=True, random_state=0)), tables.iris())


def support_vectors_one_vs_one() -> Recipe:
    """Scores of pairs of classes."""
    return Recipe(make_pipeline(StandardScaler(), NuSVC(nu=0.3, decision_function_shape="ovo")), tables.iris())


RECIPES: tuple[Callable[[], Recipe], ...] = (
    logistic_liblinear,
    logistic_one_vs_rest,
    logistic_multinomial,
    logistic_cv_one_vs_rest,
    ada_boost_of_scores,
    ada_boost_of_labels,
    text_naive_bayes,
    text_sublinear,
    boosting_exponential,
    boosting_huber,
    boosting_quantile,
    boosting_poisson,
    poisson,
    gamma,
    tweedie,
    sgd_log_loss,
    sgd_modified_huber,
    sgd_huber,
    passive_aggressive,
    support_vectors_with_probabilities,
    support_vectors_one_vs_one,
)
