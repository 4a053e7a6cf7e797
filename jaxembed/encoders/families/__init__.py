"""Our own text transformers; a new family is one file here and one name in known.py."""

from jaxembed.encoders.families.known import FAMILIES as FAMILIES
from jaxembed.encoders.families.loading import load_family as load_family
