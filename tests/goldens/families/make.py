"""Makes the goldens of the encoder families: what transformers computes with tiny random models.

Run by hand in the torch environment (see ../README.md); every output lies beside this script.
README.md here says what a family's implementation must get right.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    ElectraConfig,
    ElectraModel,
    Gemma3TextConfig,
    Gemma3TextModel,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedModel,
    Qwen3Config,
    Qwen3Model,
    RobertaConfig,
    RobertaModel,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from transformers.models.mpnet.modeling_mpnet import MPNetEncoder

HERE = Path(__file__).parent

# Lengths of the rows: one needs no padding, one is a single token.
LENGTHS = (9, 5, 1, 12)
# The first ids are padding and other special tokens in every configuration below.
FIRST_WORD = 4
VOCABULARY = {"vocab_size": 64, "max_position_embeddings": 40}
SIZES = VOCABULARY | {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 24,
}
WITHOUT_POOLER = {"add_pooling_layer": False}


def gemma3_config(use_bidirectional_attention: bool) -> Gemma3TextConfig:
    """Returns a configuration whose layers have a window, none, and a window again."""
    return Gemma3TextConfig(
        # A square would have an integer root, by which the embeddings are multiplied.
        **SIZES | {"hidden_size": 20},
        num_key_value_heads=1,
        head_dim=16,
        query_pre_attn_scalar=20,
        sliding_window=6,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        use_bidirectional_attention=use_bidirectional_attention,
    )


# The norms' epsilons are those of the published models, but for one that no model has as default.
FAMILIES = {
    "bert": (BertModel, BertConfig(**SIZES), WITHOUT_POOLER),
    "bert_old": (BertModel, BertConfig(**SIZES), {}),
    "roberta": (
        RobertaModel,
        RobertaConfig(**SIZES, type_vocab_size=1, layer_norm_eps=1e-5),
        WITHOUT_POOLER,
    ),
    "xlm-roberta": (
        XLMRobertaModel,
        XLMRobertaConfig(**SIZES, type_vocab_size=1, layer_norm_eps=1e-3),
        WITHOUT_POOLER,
    ),
    "distilbert": (
        DistilBertModel,
        DistilBertConfig(**VOCABULARY, dim=16, n_layers=3, n_heads=4, hidden_dim=24),
        {},
    ),
    "mpnet": (
        MPNetModel,
        MPNetConfig(**SIZES, relative_attention_num_buckets=32, layer_norm_eps=1e-5),
        WITHOUT_POOLER,
    ),
    "electra": (ElectraModel, ElectraConfig(**SIZES, embedding_size=8), {}),
    "albert": (AlbertModel, AlbertConfig(**SIZES, embedding_size=8), WITHOUT_POOLER),
    "modernbert": (
        ModernBertModel,
        ModernBertConfig(
            # Two heads rather than four: their rotary embedding has four frequencies, not two.
            **SIZES | {"num_hidden_layers": 4, "num_attention_heads": 2},
            global_attn_every_n_layers=3,
            local_attention=6,
            rope_parameters={
                "full_attention": {"rope_type": "default", "rope_theta": 160000.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 10000.0},
            },
            pad_token_id=0,
            bos_token_id=1,
            cls_token_id=1,
            eos_token_id=2,
            sep_token_id=2,
        ),
        {},
    ),
    "qwen3": (
        Qwen3Model,
        Qwen3Config(
            **SIZES,
            num_key_value_heads=2,
            head_dim=16,
            tie_word_embeddings=True,
            rope_parameters={"rope_type": "default", "rope_theta": 1000000.0},
            pad_token_id=0,
        ),
        {},
    ),
    "gemma3": (Gemma3TextModel, gemma3_config(use_bidirectional_attention=True), {}),
    "gemma3_causal": (Gemma3TextModel, gemma3_config(use_bidirectional_attention=False), {}),
}


def randomise(model: PreTrainedModel) -> None:
    """Moves every parameter away from 0, or from 1 where a norm's scale starts at 1."""
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            usual = parameter.flatten()[0].item() if "norm" in name.lower() else 0.0
            if usual not in (0.0, 1.0):
                raise ValueError(f"{name} does not start at 0 or 1")
            parameter.normal_(mean=usual, std=0.2)


def old_name(name: str) -> str:
    """Names a norm's parameter as BERT's first checkpoints do."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
        "LayerNorm.bias", "LayerNorm.beta"
    )


def rename_file(path: Path) -> None:
    """Gives the tensors of a file their old names."""
    tensors = {old_name(name): tensor for name, tensor in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def batch(pad_id: int, padding_side: str) -> dict[str, np.ndarray]:
    """Pads the rows, which are the same for every family and either side."""
    random = np.random.default_rng(0)
    shape = (len(LENGTHS), max(LENGTHS))
    input_ids = np.full(shape, pad_id, np.int32)
    attention_mask = np.zeros(shape, np.int32)
    for row, length in enumerate(LENGTHS):
        real = slice(length) if padding_side == "right" else slice(-length, None)
        input_ids[row, real] = random.integers(FIRST_WORD, VOCABULARY["vocab_size"], length)
        attention_mask[row, real] = 1
    return {"input_ids": input_ids, "attention_mask": attention_mask}


def hidden_states(model: PreTrainedModel, inputs: dict[str, np.ndarray]) -> torch.Tensor:
    """Computes all hidden states `l+1 n t d`, the last being last_hidden_state."""
    tensors = {name: torch.from_numpy(array).long() for name, array in inputs.items()}
    output = model(**tensors, output_hidden_states=True)
    return torch.stack([*output.hidden_states[:-1], output.last_hidden_state])


def expected(model: PreTrainedModel) -> dict[str, np.ndarray]:
    """Computes the hidden states of both batches, and every gradient of the right-padded one."""
    pad_id = model.config.pad_token_id
    arrays = {}
    for side in ("left", "right"):
        inputs = batch(pad_id, side)
        real = torch.from_numpy(inputs["attention_mask"])[:, :, None]
        hidden = hidden_states(model, inputs)
        arrays |= {f"{side}_{name}": array for name, array in inputs.items()}
        arrays[f"{side}_hidden"] = (hidden.detach() * real).numpy()
    weights = real * torch.randn(hidden.shape[1:], generator=torch.Generator().manual_seed(1))
    (hidden[-1] * weights).sum().backward()
    arrays["w"] = weights.numpy()
    for name, parameter in model.named_parameters():
        # The loss does not see a pooler.
        if parameter.grad is not None:
            arrays[f"grad/{name}"] = parameter.grad.numpy()
    return arrays


def mpnet_buckets() -> dict[str, np.ndarray]:
    """Returns the buckets of distances far longer than the rows."""
    relative = torch.arange(-300, 301)
    buckets = MPNetEncoder.relative_position_bucket(relative, num_buckets=32)
    return {
        "relative_positions": relative.numpy().astype(np.int32),
        "relative_position_buckets": buckets.numpy().astype(np.int32),
    }


def make(name: str) -> None:
    """Writes a family's folder, and computes what to expect with the model loaded from there."""
    model_class, config, arguments = FAMILIES[name]
    config._attn_implementation = "eager"
    folder = HERE / name
    model = model_class(config, **arguments).eval()
    randomise(model)
    model.save_pretrained(folder)
    if name == "bert_old":
        rename_file(folder / "model.safetensors")
    loaded = model_class.from_pretrained(folder, attn_implementation="eager", **arguments).eval()
    for side in ("left", "right"):
        inputs = batch(config.pad_token_id, side)
        if not torch.equal(hidden_states(loaded, inputs), hidden_states(model, inputs)):
            raise ValueError(f"{name} computes something else once loaded")
    arrays = expected(loaded)
    if name == "bert_old":
        arrays = {old_name(key): array for key, array in arrays.items()}
    if name == "mpnet":
        arrays |= mpnet_buckets()
    np.savez_compressed(folder / "expected.npz", **arrays)


if __name__ == "__main__":
    torch.set_num_threads(1)
    for family in FAMILIES:
        make(family)
