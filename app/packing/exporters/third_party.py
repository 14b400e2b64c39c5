"""The scikit-learn classes of XGBoost and LightGBM."""

from __future__ import annotations

from app.packing.exporters.graph import Predict
from app.packing.exporters.lightgbm_trees import lightgbm_classifier, lightgbm_regressor
from app.packing.exporters.xgboost_trees import xgboost_classifier, xgboost_regressor

PREDICTORS: dict[str, Predict] = {
    "lightgbm.LGBMClassifier": lightgbm_classifier,
    "lightgbm.LGBMRegressor": lightgbm_regressor,
    "xgboost.XGBClassifier": xgboost_classifier,
    "xgboost.XGBRFClassifier": xgboost_classifier,
    "xgboost.XGBRFRegressor": xgboost_regressor,
    "xgboost.XGBRegressor": xgboost_regressor,
}
