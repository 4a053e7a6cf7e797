"""Makes the goldens of settings: what transformers computes with a family's weights under others.

Run by hand in the torch environment, after make.py; settings.json says what was changed, and
settings.npz has the last hidden states of each text alone, one behind the other, the frequencies
of every scaling for heads as wide as those of published models, and every activation.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel, Qwen3Config
from transformers.activations import ACT2CLS, ACT2FN
from transformers.models.qwen3.modeling_qwen3 import Qwen3RotaryEmbedding

HERE = Path(__file__).parent
LENGTHS = (9, 5, 1, 12)
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10}
LONG = {
    "rope_type": "longrope",
    "short_factor": [1.0, 1.1, 1.3, 1.5, 2.0, 2.5, 3.0, 4.0],
    "long_factor": [1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 21.0],
    "original_max_position_embeddings": 8,
}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 40,
}
SCALINGS = {
    "linear": {"rope_type": "linear", "factor": 3.0},
    "linear_by_type": {"type": "linear", "factor": 3.0},
    "dynamic": {"rope_type": "dynamic", "factor": 4.0},
    "proportional": {"rope_type": "proportional", "partial_rotary_factor": 0.5, "factor": 2.0},
    "yarn": YARN,
    "yarn_betas": {**YARN, "beta_fast": 4.0, "beta_slow": 0.5},
    "yarn_attention": {**YARN, "attention_factor": 1.7},
    "yarn_mscale": {**YARN, "mscale": 1.3, "mscale_all_dim": 0.7},
    "yarn_untruncated": {**YARN, "truncate": False, "beta_fast": 2.0},
    "yarn_by_lengths": {**YARN, "factor": None},
    "yarn_of_the_model": {"rope_type": "yarn", "factor": 2.0},
    "longrope": LONG,
    "longrope_factor": {**LONG, "factor": 3.0},
    "longrope_attention": {**LONG, "attention_factor": 1.3},
    "llama3": LLAMA3,
}
OLD = {"rope_parameters": None, "rope_theta": 1000.0}
FULL = {"rope_theta": 1000.0}
SLIDING = {"rope_theta": 100.0}


def half(numbers: dict, n: int) -> dict:
    """Returns the numbers for heads of n frequencies."""
    return {k: v[:n] if isinstance(v, list) else v for k, v in numbers.items()}


def nested(kind: dict, n: int) -> dict:
    """Returns rope_parameters of both kinds of layers, as transformers 5 writes them."""
    local = {**SLIDING, "rope_type": "linear", "factor": 2.0}
    return {
        "rope_parameters": {"full_attention": {**FULL, **half(kind, n)}, "sliding_attention": local}
    }


CASES = {
    **{f"qwen3_{name}": ("qwen3", {**OLD, "rope_scaling": s}) for name, s in SCALINGS.items()},
    "qwen3_parameters": ("qwen3", {"rope_parameters": {"rope_theta": 500.0, **YARN}}),
    "qwen3_original_outside": (
        "qwen3",
        {**OLD, "rope_scaling": YARN, "original_max_position_embeddings": 20},
    ),
    "qwen3_window": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1}
        | {"layer_types": None},
    ),
    "qwen3_window_off": ("qwen3", {"sliding_window": 3, "layer_types": None}),
    "qwen3_window_types": (
        "qwen3",
        {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 3}
        | {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"]},
    ),
    "gemma3_yarn": ("gemma3", nested(YARN, 8)),
    "gemma3_longrope": ("gemma3", nested(LONG, 8)),
    "gemma3_old_linear": (
        "gemma3_causal",
        {**OLD, "rope_local_base_freq": 50.0}
        | {"rope_scaling": {"rope_type": "linear", "factor": 8.0}},
    ),
    "gemma3_pattern": (
        "gemma3_causal",
        {"layer_types": None, "sliding_window_pattern": 2, "sliding_window": 3},
    ),
    "modernbert_llama3": ("modernbert", nested(LLAMA3, 4)),
    "modernbert_longrope": ("modernbert", nested(LONG, 4)),
    "modernbert_old_yarn": (
        "modernbert",
        {"rope_parameters": None, "global_rope_theta": 700.0, "local_rope_theta": 70.0}
        | {"rope_scaling": YARN},
    ),
    "modernbert_every": (
        "modernbert",
        {"layer_types": None, "global_attn_every_n_layers": 2, "local_attention": 4},
    ),
    "bert_gelu_python": ("bert", {"hidden_act": "gelu_python"}),
    "electra_gelu_fast": ("electra", {"hidden_act": "gelu_fast"}),
    "distilbert_mish": ("distilbert", {"activation": "mish"}),
    "modernbert_relu2": ("modernbert", {"hidden_activation": "relu2"}),
    "mpnet_laplace": ("mpnet", {"hidden_act": "laplace"}),
    "albert_groups": ("albert", {"num_hidden_groups": 3}),
    "albert_inner": ("albert", {"inner_group_num": 2}),
    "albert_both": (
        "albert",
        {"num_hidden_groups": 2, "num_hidden_layers": 4, "inner_group_num": 2},
    ),
}


def texts(pad_id: int) -> list[torch.Tensor]:
    """Returns the ids of the rows of make.py, without padding."""
    random = np.random.default_rng(0)
    return [torch.from_numpy(random.integers(4, 64, length))[None] for length in LENGTHS]


def weights(folder: Path, config) -> dict[str, torch.Tensor]:
    """Returns the checkpoint; of an ALBERT with several layers, each is drawn near the first."""
    tensors = load_file(folder / "model.safetensors")
    first = "encoder.albert_layer_groups.0.albert_layers.0."
    for group in range(getattr(config, "num_hidden_groups", 1)):
        for inner in range(getattr(config, "inner_group_num", 1)):
            for name in [name for name in tensors if name.startswith(first)]:
                generator = np.random.default_rng([group, inner, len(name)])
                other = name.replace(first, first.replace("0", str(group), 1))
                other = other.replace("albert_layers.0", f"albert_layers.{inner}")
                noise = generator.normal(0, 0.1 * (group + inner > 0), tensors[name].shape)
                tensors[other] = tensors[name] + torch.from_numpy(noise.astype(np.float32))
    return tensors


def compute(name: str, scratch: Path) -> np.ndarray:
    """Computes the last hidden states of every text, `[tokens d]`."""
    family, changes = CASES[name]
    settings = json.loads((HERE / family / "config.json").read_text()) | changes
    settings = {key: value for key, value in settings.items() if value is not None}
    scratch.mkdir(exist_ok=True)
    (scratch / "config.json").write_text(json.dumps(settings))
    config = AutoConfig.from_pretrained(scratch)
    save_file(weights(HERE / family, config), scratch / "model.safetensors", {"format": "pt"})
    model = AutoModel.from_pretrained(scratch, attn_implementation="eager").eval()
    with torch.no_grad():
        rows = [model(input_ids=ids).last_hidden_state[0] for ids in texts(0)]
    return torch.cat(rows).numpy()


def frequencies() -> dict[str, np.ndarray]:
    """Returns the frequencies of every scaling and the factor behind them, of heads of 128."""
    arrays = {}
    for name, scaling in SCALINGS.items():
        wide = {k: [x for x in v for _ in range(8)] if isinstance(v, list) else v
                for k, v in scaling.items()}  # fmt: skip
        config = Qwen3Config(
            max_position_embeddings=40_960, head_dim=128, rope_theta=1e6, rope_scaling=wide
        )
        rope = Qwen3RotaryEmbedding(config)
        arrays[f"rope/{name}"] = np.append(rope.inv_freq.numpy(), rope.attention_scaling)
    return arrays


def activations() -> dict[str, np.ndarray]:
    """Returns every activation without parameters at some points."""
    x = torch.tensor([-30.0, -7.0, -3.2, -1.5, -0.7, -0.1, 0.0, 0.2, 0.9, 1.7, 3.1, 6.5, 12.0])
    names = [name for name in ACT2CLS if name not in ("prelu", "xielu")]
    return {f"activation/{name}": ACT2FN[name](x).numpy() for name in names} | {"x": x.numpy()}


if __name__ == "__main__":
    import tempfile

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        arrays = {name: compute(name, Path(folder) / name) for name in CASES}
    arrays |= frequencies() | activations()
    np.savez_compressed(HERE / "settings.npz", **arrays)
    written = {"cases": CASES, "scalings": SCALINGS}
    (HERE / "settings.json").write_text(json.dumps(written, indent=1) + "\n")
