"""The README.md of a saved model: what it is, how to load it, and the facts of its training."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxembed.encoders.tokenizer_file import UNLIMITED

if TYPE_CHECKING:
    from jaxembed.encoders.encoder import Encoder

HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
CARD = """\
---
library_name: sentence-transformers
pipeline_tag: sentence-similarity
tags:
- sentence-transformers
- sentence-similarity
- feature-extraction
- jaxembed
{base_model}---

# Embedding model

Maps a text of {length} tokens to a vector of {dimension} features.
Trained with jaxembed from `{source}`.

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
    """Writes the card; every entry of `facts` is a row of a table.

    It names the base model of the hub. A folder of this machine is named by its last part only.
    """
    longest = encoder.tokenizer.max_length
    source = str(facts.get("base model", encoder.name))
    public = HUB_NAME.fullmatch(source) and not Path(source).exists()
    card = CARD.format(
        base_model=f"base_model: {json.dumps(source)}\n" if public else "",
        source=source if public else _in_line(Path(source).name),
        length=f"up to {longest}" if longest < UNLIMITED else "any number of",
        dimension=encoder.dimension,
    )
    if facts:
        shown = {**facts, **({} if public else {"base model": Path(source).name})}
        rows = "\n".join(f"| {_in_line(name)} | {_in_line(shown[name])} |" for name in facts)
        card += f"\n## Training\n\n| | |\n|---|---|\n{rows}\n"
    return card


def _in_line(value: Any) -> str:
    """Returns a value as text that ends neither its line nor its cell nor its code."""
    return " ".join(str(value).split()).replace("|", "\\|").replace("`", "'")
