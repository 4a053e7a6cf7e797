#!/bin/sh
# Installs into .venv and fine-tunes all-MiniLM-L6-v2 on WordNet glosses: about ten minutes on two cores.
# Further flags go to scripts/train.py, such as --output runs/mine or --steps 20.
extras=flax-transformers
. "$(dirname "$0")/environment.sh"
if [ $# -eq 0 ] && [ -f runs/wordnet-gloss/config.json ] && [ ! -f runs/wordnet-gloss/results.json ]; then
    exec "$venv/bin/python" scripts/train.py --resume runs/wordnet-gloss
fi
exec "$venv/bin/python" scripts/train.py --no-dropout "$@"
