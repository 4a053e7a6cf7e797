"""The README.md of a saved model: what it is, how to load it, and the facts of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxembed.encoders.tokenizer_file import UNLIMITED

if TYPE_CHECKING:
    from jaxembed.encoders.encoder import Encoder

CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
- jaxembed
base_model: {base_model}
---

# Embedding model

Maps a text of {length} tokens to a vector of {dimension} features.
Trained with jaxembed from `{base_model}`.

```python
import jaxembed
encoder = jaxembed.load("path/to/this/folder")
embeddings = encoder.encode(["A first text.", "A second one."])
```

```python
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("path/to/this/folder")
embeddings = model.encode(["A first text.", "A second one."])
```
"""


def model_card(encoder: Encoder, facts: Mapping[str, Any]) -> str:
    """Writes the card; every entry of `facts` is a row of a table."""
    longest = encoder.tokenizer.max_length
    card = CARD.format(
        base_model=facts.get("base model", encoder.name),
        length=f"up to {longest}" if longest < UNLIMITED else "any number of",
        dimension=encoder.dimension,
    )
    if facts:
        rows = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
        card += f"\n## Training\n\n| | |\n|---|---|\n{rows}\n"
    return card
