#!/bin/sh
# Installs what the tests need into .venv, then runs ruff, pyright and pytest. Arguments go to pytest.
extras=dev,flax-transformers
. "$(dirname "$0")/environment.sh"
# With libtpu the tests compile for TPUs. It lies beside the packages: among them it would make every
# start of JAX look for TPUs. The version is the one that the installed JAX asks for.
if [ "$(uname -sm)" = "Linux x86_64" ]; then
    libtpu=$("$venv/bin/python" -c 'from importlib.metadata import requires
print(next(wanted.split(";")[0].strip() for wanted in requires("jax") if wanted.startswith("libtpu")))')
    if [ "$(cat "$venv/libtpu/installed" 2>/dev/null)" != "$libtpu" ]; then
        "$venv/bin/pip" install --quiet --quiet --disable-pip-version-check --no-deps --upgrade --target "$venv/libtpu" "$libtpu"
        echo "$libtpu" >"$venv/libtpu/installed"
    fi
fi
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/pyright" --pythonpath "$venv/bin/python"
exec "$venv/bin/python" -m pytest --numprocesses 2 --dist loadgroup "$@"
