"""What is known of the keys of config.json: those read, those without effect, those refused.

Every family declares its keys; `SHARED`, `ONLY` and `HARMLESS` are those of all. Any other key must
be off: null, false or empty.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxembed.encoders.errors import EncoderError
from jaxembed.encoders.families.activations import ACTIVATIONS
from jaxembed.encoders.keys import Keys
from jaxembed.forms import At, Choice, Form, FormError, check_form

COUNT = At(int, least=1, most=2**31)
LAYERS = At(int, least=1, most=10_000)
RATE = At(float, least=0, most=1)
EPSILON = At(float, above=0, most=1)
ID = At(int, least=0)
ACTIVATION = Choice(*ACTIVATIONS)
LAYER_TYPES = ([Choice("full_attention", "sliding_attention")], None)
ROPES = ({str: object}, None)

# Read of every configuration.
SHARED: Mapping[str, Form] = {
    "model_type": str,
    "vocab_size": COUNT,
    "initializer_range?": At(float, least=0),
    "dtype?": (str, None),
    "torch_dtype?": (str, None),
}
# What leaves a key that is not known without effect.
OFF = (None, False, "", [], {})
# Of every configuration.
ONLY = {"is_encoder_decoder": (False, None), "pruned_heads": ({}, None)}

# Without effect on an embedding, whatever the model type.
_NAMES = """
architectures auto_map transformers_version tokenizer_class prefix _name_or_path _commit_hash name
name_or_path sentence_transformers finetuning_task task_specific_params problem_type id2label
label2id num_labels num_choices keys_to_ignore_at_inference custom_pipelines model_max_length
language unsloth_fixed unsloth_version

pad_token_id bos_token_id eos_token_id sep_token_id cls_token_id mask_token_id unk_token_id
decoder_start_token_id

attn_implementation _attn_implementation _attn_implementation_autoset _flash_attn_2_enabled
_attn_implementation_internal _experts_implementation chunk_size_feed_forward use_cache
gradient_checkpointing output_attentions output_hidden_states output_scores output_past return_dict
return_dict_in_generate torchscript use_bfloat16 use_return_dict xla_device pretraining_tp
tie_word_embeddings tie_encoder_decoder tie_weights_ tf_legacy_loss cross_attention_hidden_size
cache_implementation

bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping
encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id
forced_eos_token_id length_penalty max_length min_length max_new_tokens no_repeat_ngram_size
num_beam_groups num_beams num_return_sequences remove_invalid_values repetition_penalty
suppress_tokens temperature top_k top_p typical_p

classifier_dropout classifier_dropout_prob summary_activation summary_first_dropout
summary_last_dropout summary_type summary_use_proj summary_proj_to_labels
"""
HARMLESS = frozenset(_NAMES.split())


def check_keys(file: Path, settings: Mapping[str, Any], keys: Keys) -> None:
    """Checks every key of the configuration that lies in a file.

    Raises:
        EncoderError: a value of another form, or a key that is refused or unknown; the message
            names the key and the remedy.
    """
    refuse_quantisation(file, settings)
    model_type = settings.get("model_type")
    known = Keys({**SHARED, **keys.used}, {*HARMLESS, *keys.harmless}, {**ONLY, **keys.only})
    try:
        check_form(settings, dict(known.used), str(file))
    except FormError as error:
        raise EncoderError(str(error)) from None
    known.check(settings, file)
    for key in known.unknown(settings):
        if settings[key] not in OFF:
            raise EncoderError(
                f"{file}: the key {key!r} ({_shown(settings[key])}) is unknown for the model type"
                f" {model_type!r}; remove it if it changes no embedding"
            )


def refuse_quantisation(file: Path, settings: Mapping[str, Any]) -> None:
    """Refuses a configuration of a quantised checkpoint, by the name of the method."""
    quantised = settings.get("quantization_config")
    if not quantised:
        return
    method = quantised.get("quant_method") if isinstance(quantised, Mapping) else None
    raise EncoderError(
        f"{file}: quantization_config says that the weights are quantised"
        f" ({method or 'by an unnamed method'}); dequantise the model with its own library and save"
        " it again"
    )


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:60] + "…"
