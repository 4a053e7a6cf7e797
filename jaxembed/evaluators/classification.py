"""How well a linear classifier reads the class of a text from its embedding."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from jaxembed.evaluators.checking import check_column, check_texts, is_count
from jaxembed.evaluators.clustering import Label, check_labels, check_scikit_learn
from jaxembed.evaluators.protocols import EmbedFn, embed_texts


@dataclass(frozen=True, eq=False, repr=False)
class ClassificationEvaluator:
    """Fits logistic regressions to a few training texts of each label, and tries them on others.

    Gives `accuracy` and the mean over the labels of their F1, `f1`, as means over the experiments:
    those of MTEB, whose seed is 42, by scikit-learn's `LogisticRegression`.

    Args:
        train_texts: Texts, of which only those are embedded that an experiment draws.
        train_labels: The class of each: all strings or all integers.
        test_texts: Texts.
        test_labels: The class of each.
        samples_per_label: How many training texts of a label an experiment draws (all that there
            are, if fewer); None takes all texts, for one experiment.
        experiments: How often texts are drawn.
        seed: Of the draws.
        max_iter: Steps after which a regression stops, converged or not.

    Raises:
        ValueError: scikit-learn is missing, lengths differ or are 0, a text or a label is none, all
            training labels are equal, a test label never occurs in training, or a number is below
            1.

    Source: Muennighoff et al., "MTEB: Massive Text Embedding Benchmark", 2023.

    >>> evaluator = ClassificationEvaluator(
    ...     ["ox", "ant", "elephant", "crocodile"], ["short", "short", "long", "long"],
    ...     ["cow", "antelope"], ["short", "long"],
    ... )
    >>> evaluator.evaluate(lambda texts, *, role: np.array([[len(text)] for text in texts]))
    {'accuracy': 1.0, 'f1': 1.0}
    """

    train_texts: Sequence[str]
    train_labels: Sequence[Label]
    test_texts: Sequence[str]
    test_labels: Sequence[Label]
    samples_per_label: int | None = 8
    experiments: int = 10
    seed: int = 0
    max_iter: int = 100

    def __post_init__(self) -> None:
        check_scikit_learn("classification")
        check_texts(train_texts=self.train_texts)
        check_texts(test_texts=self.test_texts)
        check_labels("train_labels", self.train_labels, len(self.train_texts))
        check_column("test_labels", self.test_labels, "labels")
        if len(self.test_labels) != len(self.test_texts):
            raise ValueError(
                f"every text needs one of test_labels, "
                f"got {len(self.test_labels)} for {len(self.test_texts)} texts"
            )
        known = set(self.train_labels)
        for row, label in enumerate(self.test_labels):
            if label not in known:
                raise ValueError(
                    f"the label {label!r} of test text {row} never occurs in training: "
                    f"add texts that have it, or drop the test text"
                )
        for name in ("samples_per_label", "experiments", "max_iter"):
            count = getattr(self, name)
            if not is_count(count) and (count is not None or name != "samples_per_label"):
                raise ValueError(f"{name} must be at least 1, got {count!r}")

    @property
    def main_metric(self) -> str:
        """The name of the metric that ranks models."""
        return "accuracy"

    def evaluate(self, embed: EmbedFn) -> dict[str, float]:
        """Embeds the drawn and the test texts (role None); returns `{"accuracy": …, "f1": …}`."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.metrics import accuracy_score, f1_score

        draws = list(self.draws())
        used = sorted(set(chain.from_iterable(draws)))
        train = embed_texts(embed, [self.train_texts[row] for row in used], role=None)
        test = embed_texts(embed, list(self.test_texts), role=None)
        train, test = (x.astype(np.float32, copy=False) for x in (train, test))
        train_labels, truth = np.asarray(self.train_labels), np.asarray(self.test_labels)
        values = []
        for rows in draws:
            regression = LogisticRegression(max_iter=self.max_iter)
            with warnings.catch_warnings():  # max_iter says when to stop
                warnings.simplefilter("ignore", ConvergenceWarning)
                regression.fit(train[np.searchsorted(used, rows)], train_labels[rows])
            predicted = regression.predict(test)
            f1 = f1_score(truth, predicted, average="macro")
            values.append((accuracy_score(truth, predicted), f1))
        accuracy, f1 = np.mean(values, axis=0)
        return {"accuracy": float(accuracy), "f1": float(f1)}

    def draws(self) -> Iterator[list[int]]:
        """Draws the training rows of each experiment, by shuffling the rows of the one before."""
        rows = list(range(len(self.train_labels)))
        if self.samples_per_label is None:
            yield rows
            return
        for _ in range(self.experiments):
            np.random.RandomState(self.seed).shuffle(rows)
            counts, drawn = dict.fromkeys(self.train_labels, 0), []
            for row in rows:
                label = self.train_labels[row]
                if counts[label] < self.samples_per_label:
                    counts[label] += 1
                    drawn.append(row)
            yield drawn
