"""Fine-tunes a model with sentence-transformers' trainer, for fine_tuning.py, which starts it.

    sentence_transformers_finetune.py START REQUEST.json

START is the time when the process was started, REQUEST.json what `fine_tuning.py` writes;
`save_every` steps, `stop_after` steps and `resume` are for checkpoints.py. The last line that it
prints is JSON: versions, the loss of each step, seconds and evaluations.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
)
from torch.utils.data import SequentialSampler
from torch_precision import DEVICE, FACTS, ON_GPU, prepare
from transformers import TrainerCallback

IMPORTED, START = time.time(), float(sys.argv[1])
LOSSES = {
    "multiple_negatives_ranking": losses.MultipleNegativesRankingLoss,
    "cosent": losses.CoSENTLoss,
}


class Watch(TrainerCallback):
    """Keeps losses, evaluations and seconds; what evaluations take is no training."""

    def __init__(self, model, evaluation, stop_after):
        self.model, self.evaluate = model, evaluator(evaluation)
        self.every = evaluation["every"] if evaluation else 0
        self.losses, self.evaluations, self.save_s = [], [], []
        self.stop_after, self.step_ended = stop_after, 0.0
        self.first_step_s = self.evaluating_s = self.begin = 0.0

    def on_train_begin(self, args, state, control, **_):
        self.measure(0)
        self.begin, self.evaluating_s = time.time(), 0.0

    def on_step_end(self, args, state, control, **_):
        self.first_step_s = self.first_step_s or time.time() - START
        step = state.global_step
        if self.every and (step % self.every == 0 or step == state.max_steps):
            self.measure(step)
        control.should_training_stop |= step == self.stop_after
        self.step_ended = time.time()

    def on_save(self, args, state, control, **_):
        self.save_s.append(time.time() - self.step_ended)

    def on_log(self, args, state, control, logs, **_):
        if "loss" in logs:
            self.losses.append(float(logs["loss"]))

    def measure(self, step):
        if not self.evaluate:
            return
        begin = time.time()
        training_s = begin - self.begin - self.evaluating_s if step else 0.0
        value = self.evaluate(self.model)
        self.model.train()
        self.evaluating_s += time.time() - begin
        self.evaluations.append({"step": step, "training_s": training_s, "value": value})


def evaluator(given):
    """Builds the library's own evaluator; returns what gives its value for a model."""
    if given is None:
        return None
    if given["kind"] == "similarity":
        own = EmbeddingSimilarityEvaluator(given["left"], given["right"], given["scores"])
        name = "spearman_cosine"
    else:
        relevant = {query: set(ids) for query, ids in given["relevant"].items()}
        own = InformationRetrievalEvaluator(given["queries"], given["corpus"], relevant)
        name = "cosine_ndcg@10"
    return lambda model: float(own(model)[name])


def in_order(dataset, **options):
    return DefaultBatchSampler(
        SequentialSampler(dataset),
        **{name: options[name] for name in ("batch_size", "drop_last")},
    )


def main():
    request = json.loads(Path(sys.argv[2]).read_text())
    prepare()
    model = SentenceTransformer(request["model"], device=DEVICE)
    model.max_seq_length = request["max_seq_length"]
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    watch = Watch(model, request["evaluation"], request.get("stop_after"))
    columns = dict(request["columns"])
    if "scores" in columns:
        columns["score"] = columns.pop("scores")
    trainer = SentenceTransformerTrainer(
        model=model,
        args=SentenceTransformerTrainingArguments(
            output_dir=request["output"] + "-checkpoints",
            per_device_train_batch_size=request["batch"],
            max_steps=request["steps"],
            learning_rate=request["learning_rate"],
            warmup_steps=request["warmup_steps"],
            weight_decay=request["weight_decay"],
            max_grad_norm=request["clip_norm"],
            batch_sampler=in_order,
            logging_steps=1,
            save_strategy="steps" if "save_every" in request else "no",
            save_steps=request.get("save_every", 1),
            report_to="none",
            disable_tqdm=True,
            bf16=request["dtype"] == "bfloat16",
            use_cpu=not ON_GPU,
        ),
        train_dataset=Dataset.from_dict(columns),
        loss=LOSSES[request["loss"]](model),
        callbacks=[watch],
    )
    trainer.train(resume_from_checkpoint=request.get("resume"))
    training_s = time.time() - watch.begin - watch.evaluating_s
    model.save_pretrained(request["output"], create_model_card=False)
    packages = ("torch", "sentence-transformers", "transformers")
    print(json.dumps({
        "versions": {
            **{"python": platform.python_version(), "threads": torch.get_num_threads()} | FACTS,
            **{name: version(name) for name in packages},
        },
        "losses": watch.losses,
        "save_s": watch.save_s,
        "seconds": {
            "imports": IMPORTED - START,
            "to_first_step": watch.first_step_s,
            "training": training_s,
            "evaluating": watch.evaluating_s,
            "total": time.time() - START,
        },
        "evaluations": watch.evaluations,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
