"""Runs two small tasks of mteb on an encoder of ours; run in an environment with mteb and jaxembed.

Reads from standard input {"model", "sts": {"left", "right", "scores"}, "retrieval": {"corpus",
"queries", "qrels"}}, and prints the scores as JSON.
"""

import json
import os
import sys
from importlib.metadata import version

os.environ["HF_HUB_OFFLINE"] = "1"

import mteb
from datasets import Dataset
from mteb.abstasks import AbsTaskRetrieval, AbsTaskSTS
from mteb.abstasks.task_metadata import TaskMetadata

import jaxembed
from jaxembed.evaluators.mteb import MtebEncoder


def metadata(name, kind, main_score):
    return TaskMetadata(
        name=name,
        type=kind,
        main_score=main_score,
        description="Data in memory.",
        dataset={"path": "local/local", "revision": "1"},
        category="t2t",
        eval_splits=["test"],
        eval_langs=["eng-Latn"],
        date=("2020-01-01", "2020-01-02"),
        domains=["Written"],
        license="not specified",
        annotations_creators="derived",
        sample_creation="found",
        bibtex_citation="",
    )


def tasks(given):
    class Similarity(AbsTaskSTS):
        metadata = metadata("LocalSTS", "STS", "cosine_spearman")
        min_score, max_score = 0, 5

        def load_data(self, **_):
            sts = given["sts"]
            columns = {"sentence1": sts["left"], "sentence2": sts["right"], "score": sts["scores"]}
            self.dataset = {"test": Dataset.from_dict(columns)}
            self.data_loaded = True

    class Retrieval(AbsTaskRetrieval):
        metadata = metadata("LocalRetrieval", "Retrieval", "ndcg_at_10")

        def load_data(self, **_):
            tables = {
                name: Dataset.from_list(
                    [{"id": key, "text": text} for key, text in given["retrieval"][name].items()]
                )
                for name in ("corpus", "queries")
            }
            qrels = {"relevant_docs": given["retrieval"]["qrels"], "top_ranked": None}
            self.dataset = {"default": {"test": {**tables, **qrels}}}
            self.data_loaded = True

    return Similarity(), Retrieval()


def main():
    given = json.load(sys.stdin)
    model = MtebEncoder(jaxembed.load(given["model"]))
    found = {}
    for task in tasks(given):
        result = mteb.evaluate(
            model, task, cache=None, show_progress_bar=False, co2_tracker=False
        ).task_results[0]
        found[task.metadata.name] = result.scores["test"][0]
    names = ("cosine_pearson", "cosine_spearman", "ndcg_at_10", "map_at_10", "recall_at_10")
    scores = {
        f"{task}/{name}": its[name] for task, its in found.items() for name in names if name in its
    }
    print(json.dumps({"mteb": version("mteb"), "scores": scores}))


if __name__ == "__main__":
    main()
