"""The flags of a training: their meaning, their defaults, and which go together."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from data_flags import DataFlags
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # pyright: ignore[reportPrivateImportUsage]
from keeping_flags import KeepingFlags
from loss_flags import LossFlags

from jaxembed.forms import At, FormError, read_json
from jaxembed.objectives import REGISTRY
from jaxembed.settings import Count, Natural, NotNegative, Positive, Seed, Share, check_fields
from jaxembed.training.loggers import check_logger

Texts = tuple[str, ...]
Plan = Literal["plain", "no_duplicates", "group_by_label", "contrastive_tension", "clusters"]


@dataclass(frozen=True)
class RunFlags:
    """The flags of a run, without those of its data, of losses and of what it keeps."""

    # What is trained
    model: str = "all-MiniLM-L6-v2"
    """A folder, or the name of a model on the hub."""
    loss: Texts = ("multiple_negatives_ranking",)
    """An objective such as cosent, or several to be added up. The README has the table of all."""
    loss_weights: tuple[NotNegative, ...] = ()
    """The weight of each loss in the sum; 1 for all if empty."""
    inner_loss: str | None = None
    """What matryoshka, matryoshka_2d and adaptive_layer wrap (multiple_negatives_ranking)."""
    output: Path = Path("runs/wordnet-gloss")
    """The folder of the run: log, checkpoints, picture, and the model in the end."""
    resume: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Resumes the run in this folder, with the flags it was started with; --steps or --epochs
    make it longer, and the learning rate then follows the schedule of the longer run."""
    overwrite: bool = False
    """Deletes a run that is already in the output folder."""

    # Further networks, and other forms of the model
    guide: str | None = None
    """The model that says what is no negative (gist_embed)."""
    teacher_model: str | None = None
    """The model that is distilled (distill_kl_div, margin_mse, mse, embed_distill)."""
    decoder_name_or_path: str | None = None
    """The decoder of denoising_auto_encoder, where it is not tied to the encoder."""
    tie_encoder_decoder: bool | None = None
    """Whether the decoder shares the encoder's parameters; it does if no decoder is named."""
    pooling_strategy: str | None = None
    """cls, mean, max, … instead of the model's own pooling."""
    n_layers: Count | None = None
    """Keeps the first so many layers of the model."""
    random_init: bool = False
    """Draws the model's parameters anew, from the seed."""

    # What learns
    freeze: Texts = ()
    """Parameters that stay as they are, by the beginnings of their paths, with * for anything:
    encoder/transformer/embeddings, */bias, *[:4] (the first four layers)."""
    layer_decay: Annotated[float, At(float, above=0, most=1)] | None = None
    """Multiplies the learning rate once more for every layer further down, such as 0.9."""
    lora_rank: Count | None = None
    """Trains adapters of this rank, such as 8, instead of the encoder; saves them merged."""
    lora_alpha: Positive = 16.0
    """How much the adapters weigh; divided by the rank."""
    lora_targets: Texts = ("query", "value")
    """The linear layers that have adapters, by the ends of their paths: attention/*, mlp/*, …"""

    # Steps
    steps: Count | None = None
    """Number of steps; 120 if neither they nor epochs are given."""
    epochs: Count | None = None
    """Number of passes over the data instead."""
    batch_size: Annotated[Count, tyro.conf.arg(aliases=["--global-batch-size"])] = 128
    """Rows of a step, over all devices."""
    mini_batch_size: Count | None = None
    """Rows that each device encodes at once: a large batch in the memory of a small one, for a
    third more work. All if None."""
    gradient_accumulation_steps: Count = 1
    """Parts of a batch whose gradients are added up, for losses whose rows know nothing of each
    other. Others would lose negatives: for them there is --mini-batch-size."""
    batch_plan: Plan | None = None
    """Which rows form a batch; what suits the loss if not given."""
    pos_neg_ratio: Count = 8
    """Of the plan contrastive_tension: one pair of so many is of a text with itself."""
    rows_per_label: Count = 2
    """Of the plan group_by_label: rows of each label that a batch visits."""
    cluster_column: str | None = None
    """Numbers of clusters, whose rows then come together (the plan clusters)."""
    deletion_ratio: Share = 0.6
    """Share of the words that denoising deletes."""
    learning_rate: NotNegative = 2e-4
    """The highest. 2e-4 suits a small model such as MiniLM, 2e-5 one of the size of BERT-base."""
    warmup_share: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    decay: Literal["linear", "cosine", "constant"] = "linear"
    """How the learning rate falls after that."""
    weight_decay: NotNegative = 0.01
    """On matrices, not on biases and norms."""
    clip_norm: Positive | None = 1.0
    """Limit of the global norm of the gradient; None is none."""
    dropout: bool = True
    """Whether to drop out what the model's configuration says. On a CPU that takes long."""
    seed: Seed = 0

    # Speed
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the computation; parameters, optimizer and loss are float32."""
    encoder_source: Literal["auto", "jaxembed", "transformers"] = "auto"
    """Whose models: our own, or the Flax ones of transformers 4; auto takes ours where it can."""
    remat: Literal["none", "dots", "full"] | None = None
    """What our own models compute again for the gradient, to save memory; dots if not given."""
    max_seq_length: Count | None = None
    """Tokens that are kept of a text; the model's own limit if not given."""
    buckets: tuple[Count, ...] = (16, 32, 64, 128, 256, 512)
    """Lengths that batches are padded to; each that occurs is compiled once."""
    split_lengths: bool = True
    """Encodes the longest quarter of each column apart, so that it does not pad the rest."""
    packing: bool = False
    """Puts several short texts into one row, so that almost nothing is padding; of our own models.
    Rows, as in --mini-batch-size, are then packed ones."""
    token_cache: Path | None = None
    """A folder that tokenize_texts.py filled: the tokens of what is in it are read from there."""
    workers: Natural = 0
    """Processes that prepare batches; 0 is threads."""
    cache: Path | None = Path("~/.cache/jaxembed/compiled")
    """Where compiled programs are kept between runs; None keeps none."""

    # Devices and hosts
    fsdp: Count | None = None
    """Devices that share one copy of parameters and optimizer; 1 if not given. Rows are spread over
    all devices all the same."""
    tensor: Count | None = None
    """Devices that share heads and inner width of our own models' layers; 1 if not given."""
    ring: bool = False
    """With --block-size: sends candidates round the devices rather than rows to all of them."""
    coordinator: str | None = None
    """Name and port of host 0, such as node-0:8476; the port before is used too. Found on TPU pods,
    SLURM and Kubernetes."""
    n_hosts: Count | None = None
    """Number of hosts: processes, each with some of the devices. Found likewise."""
    host_index: Natural | None = None
    """Which of them this is, from 0. Found likewise."""
    host_timeout_s: Annotated[float, At(float, above=0, most=1e6)] = 300.0
    """Seconds until a host that does not come, or falls silent, counts as lost."""


@dataclass(frozen=True)
class Config(LossFlags, KeepingFlags, DataFlags, RunFlags):
    """Trains a text encoder: texts in files in, a sentence-transformers folder out."""


class ConfigError(ValueError):
    """Flags that do not go together; the message says which."""


# The settings of losses among the flags, and what a task of its own may say.
SETTINGS = tuple(field.name for field in dataclasses.fields(LossFlags))
OF_A_TASK = (
    *SETTINGS,
    *(
        "data",
        "data_weights",
        "weight",
        "stream",
        "window",
        "split",
        "columns",
        "hard_negatives",
        "negatives_per_row",
        "drop_incomplete",
        "drop_label",
        "prompts",
    ),
    *("loss", "loss_weights", "inner_loss"),
    *("batch_size", "batch_plan", "pos_neg_ratio", "rows_per_label", "cluster_column"),
    *("deletion_ratio", "query_prompt", "document_prompt"),
)
# What may differ between a run and its continuation.
FREE = (
    "epochs",  # the number of steps counts, which may become greater
    *("output", "resume", "overwrite", "workers", "cache", "token_cache"),
    *("fsdp", "tensor", "ring"),
    *(field.name for field in dataclasses.fields(KeepingFlags) if "prompt" not in field.name),
)
# What belongs to a host rather than to the run, and what may be said anew beside --resume.
OF_HOST = ("coordinator", "n_hosts", "host_index", "host_timeout_s")
OF_DEVICES = ("fsdp", "tensor", "mini_batch_size", "remat", "ring")  # none changes the result
RECORDED = ("bound",)  # what config.json says beside the flags: which column played which role
STEPS = 120  # if neither steps nor epochs are given
PLAN = ("steps", "epochs")  # a run that is resumed may become longer
ANEW = ("resume", "overwrite", *PLAN, *OF_HOST, *OF_DEVICES)


def continued(config: Config) -> Config:
    """Reads the flags of the run that goes on; other flags beside --resume are refused."""
    folder = config.resume
    assert folder is not None
    if changed := [
        field.name
        for field in dataclasses.fields(config)
        if field.name not in ANEW and getattr(config, field.name) != field.default
    ]:
        raise ConfigError(f"--resume takes the flags of the run; leave --{changed[0]} away")
    file = folder / "config.json"
    if not file.exists():
        raise ConfigError(f"{folder} holds no run: there is no {file}")
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in read_json(file, {str: object}).items()
        if name not in RECORDED
    }
    if unknown := values.keys() - {field.name for field in dataclasses.fields(config)}:
        raise ConfigError(f"{file} is of another version: there is no flag {min(unknown)}")
    if values.get("epochs") is not None:
        values["steps"] = None  # older runs have the default of both
    longer = {name: getattr(config, name) for name in PLAN}
    values |= longer if any(value is not None for value in longer.values()) else {}
    for name in ("cache", "token_cache", "tasks"):
        value = values.get(name)
        values[name] = Path(value) if isinstance(value, str) else value
    anew = {name: getattr(config, name) for name in (*OF_HOST, *OF_DEVICES)}
    anew = {name: value for name, value in anew.items() if value is not None and value is not False}
    config = Config(**{**values, **anew, "output": folder, "resume": folder})
    try:
        check_fields(config)
    except FormError as error:
        raise ConfigError(f"{file}: {error}") from None
    return config


def plan_of(flags: Mapping[str, Any]) -> str:
    """Says how long a run of these flags is; older ones have a default of the steps in any case."""
    if flags.get("epochs") is not None:
        return f"{flags['epochs']} epochs"
    return f"{flags.get('steps') or STEPS} steps"


def check(config: Config) -> None:
    """Refuses flags that cannot work, before anything is loaded."""
    check_fields(config)
    for loss in config.loss:
        if loss not in REGISTRY:
            raise ConfigError(f"unknown loss {loss!r}; choose one of {', '.join(REGISTRY)}")
    if config.steps is not None and config.epochs is not None:
        raise ConfigError("give either --steps or --epochs")
    if config.loss_weights and not any(config.loss_weights):
        raise ConfigError("all --loss-weights are 0, so there is nothing to learn; raise one")
    if not config.buckets:
        raise ConfigError("--buckets names no length; give one at least, such as 64")
    if wrong := [prompt for prompt in config.prompts if "=" not in prompt]:
        raise ConfigError(f"--prompts {wrong[0]!r} names no role; write anchors=… before it")
    for name in config.log_to:
        check_logger(name)
    if config.push_to_hub is not None:
        try:
            validate_repo_id(config.push_to_hub)
        except HFValidationError as error:
            raise ConfigError(f"--push-to-hub {str(error).splitlines()[0]}") from None
    if config.average_last > 1 and config.save_best:
        raise ConfigError("give either --save-best or --average-last")
    for name in ("lora_alpha", "lora_targets"):
        if config.lora_rank is None and getattr(config, name) != getattr(Config, name):
            raise ConfigError(f"{name} is of adapters; give --lora-rank too, such as 8")
    for loss in config.loss:
        if REGISTRY[loss].roles.ids and config.batch_size == 1:
            raise ConfigError(
                f"{loss} takes its negatives from the batch, so batch_size 1 has none to learn"
                " from; use at least 2"
            )
    if config.gradient_accumulation_steps > 1 and config.packing:
        raise ConfigError("--gradient-accumulation-steps cuts batches by rows; no --packing then")
    if config.decoder_name_or_path and config.tie_encoder_decoder:
        raise ConfigError(
            "a tied decoder is the encoder itself; leave --decoder-name-or-path away, or say"
            " --no-tie-encoder-decoder"
        )
    check_output(config)


def check_output(config: Config) -> None:
    """Refuses a folder that holds a run, unless that is resumed or overwritten."""
    if config.output.exists() and not config.output.is_dir():
        raise ConfigError(f"{config.output} is a file; choose another --output")
    finished = config.output / "config.json"
    if not config.resume and not config.overwrite and finished.exists():
        raise ConfigError(
            f"{config.output} already holds a run; go on with --resume {config.output}, start anew"
            " with --overwrite, or choose another --output"
        )


def as_json(config: Config) -> dict[str, Any]:
    """Turns the flags into what JSON can hold, without those of a host."""
    flags = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return {name: value for name, value in flags.items() if name not in OF_HOST}
