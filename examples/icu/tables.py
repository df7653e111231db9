"""The models of scikit-learn, on one row per stay: boosting and logistic regression."""

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from icu.missing import copies
from icu.stays import Stays
from icu.summary import as_table


class Fitted:
    """A fitted classifier; call it with stays."""

    def __init__(self, classifier: ClassifierMixin) -> None:
        self.classifier = classifier

    def __call__(self, stays: Stays) -> np.ndarray:
        """Return the probability of death ``(S,)``."""
        return self.classifier.predict_proba(as_table(stays))[:, 1]


def fit_boosting(train: Stays, *, seed: int) -> Fitted:
    """Fit gradient boosting to the complete stays."""
    return Fitted(_boosting(seed).fit(as_table(train), train.died.numpy()))


def fit_boosting_with_dropping(train: Stays, *, seed: int) -> Fitted:
    """Fit gradient boosting to the complete stays and to copies with input dropped as for the networks."""
    generator = torch.Generator().manual_seed(seed)
    tables = [as_table(part) for part in copies(train, generator)]
    return Fitted(_boosting(seed).fit(np.concatenate(tables), np.tile(train.died.numpy(), len(tables))))


def fit_logistic(train: Stays, *, seed: int) -> Fitted:
    """Fit logistic regression to the complete stays; the mean stands in for what is missing."""
    imputer = SimpleImputer(add_indicator=True, keep_empty_features=True)
    model = make_pipeline(imputer, StandardScaler(), LogisticRegression(C=0.01, max_iter=1000, random_state=seed))
    return Fitted(model.fit(as_table(train), train.died.numpy()))


def _boosting(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(
        learning_rate=0.05, max_iter=200, max_leaf_nodes=15, l2_regularization=1.0, random_state=seed
    )


TABLES = {"boosting": fit_boosting, "boosting, dropped": fit_boosting_with_dropping, "logistic": fit_logistic}
