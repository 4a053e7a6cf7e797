"""Text encoders: tokens to embeddings, read from and written to sentence-transformers folders."""

from jaxembed.encoders.decoder import (
    Decoder as Decoder,
    load_decoder as load_decoder,
    tied_decoder as tied_decoder,
)
from jaxembed.encoders.encoder import Encoder as Encoder
from jaxembed.encoders.errors import EncoderError as EncoderError
from jaxembed.encoders.families.axes import tensor_axis as tensor_axis
from jaxembed.encoders.folder import load as load
from jaxembed.encoders.inference import (
    encode_stream as encode_stream,
    quantize_embeddings as quantize_embeddings,
)
from jaxembed.encoders.packing import pack as pack, pack_columns as pack_columns
from jaxembed.encoders.tokenizer import TextTokenizer as TextTokenizer
