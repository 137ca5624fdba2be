#!/usr/bin/env bash
# Installs the harness for judging, into an environment of its own outside of the checkout.
# Environment: GATE_INSTALL (what pip installs; empty: this action's repository; none: nothing), GATE_PYTHON.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=${GATE_WORK:-${RUNNER_TEMP:?}/harness-gate}
mkdir -p "$work"
# The checkout is a stranger's: from within it, `python -m venv` would import its venv.py.
cd "$work"
export PYTHONSAFEPATH=1

if [ "${GATE_INSTALL:-}" = none ]; then
  bin=$(dirname "$(command -v harness)")
else
  "${GATE_PYTHON:-python3}" -m venv "$work/venv"
  bin=$work/venv/bin
  if [ -n "${GATE_INSTALL:-}" ]; then
    read -r -d '' -a what <<<"$GATE_INSTALL" || true
  else
    root=$(cd "$here/../../.." && pwd)
    what=(-c "$root/.ci/constraints.txt" "${root}[judge]")
  fi
  "$bin/python" -m pip install --quiet --disable-pip-version-check "${what[@]}"
fi
if [ -n "${GITHUB_OUTPUT:-}" ]; then
  printf 'bin=%s\n' "$bin" >>"$GITHUB_OUTPUT"
fi
