"""A scikit-learn classifier in a pipeline and a grid search: which objective suits the digits?"""

from sklearn.datasets import load_digits
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from labelembed.integrations.sklearn import ObjectiveClassifier

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)

# As MLPClassifier, with an objective: any of labelembed.OBJECTIVES, with its hyper-parameters by name.
classifier = ObjectiveClassifier(hidden_layer_sizes=(100,), max_iter=40, calibrate=True, random_state=0)
pipeline = make_pipeline(StandardScaler(), classifier)
grid = [
    {"objectiveclassifier__objective": ["one_hot", "label_embedding"]},
    {
        "objectiveclassifier__objective": ["label_smoothing"],
        "objectiveclassifier__objective_arguments": [{"smoothing": 0.1}, {"smoothing": 0.3}],
    },
]
search = GridSearchCV(pipeline, grid, cv=3, scoring="neg_log_loss").fit(X_train, y_train)
for settings, score in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
    print(f"{-score:.3f}", *settings.values())

best = search.best_estimator_
probabilities = best.predict_proba(X_test)  # at the temperature fitted on a tenth of the training examples
print(f"test error {100 * (1 - best.score(X_test, y_test)):.1f} %, log loss {log_loss(y_test, probabilities):.3f}")
print("most like 4:", [each.name for each in best[-1].label_geometry_.neighbours("4", k=3)])
