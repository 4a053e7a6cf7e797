#!/bin/sh
# Installs what the tests need into .venv, then runs ruff, pyright and pytest. Arguments go to pytest.
extras=dev,flax-transformers
. "$(dirname "$0")/environment.sh"
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/pyright" --pythonpath "$venv/bin/python"
exec "$venv/bin/python" -m pytest --numprocesses 2 --dist loadgroup "$@"
