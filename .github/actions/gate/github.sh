#!/usr/bin/env bash
# What GitHub's event says about both sides, for gate.sh: GATE_BASE and GATE_HEAD. For an event without a pull request,
# such as a push to the base branch, both are the commit itself.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export GATE_REPOSITORY=${GITHUB_WORKSPACE:?} GATE_WORK=${GATE_WORK:-${RUNNER_TEMP:?}/harness-gate} PYTHONSAFEPATH=1
mkdir -p "$GATE_WORK"
cd "$GATE_WORK"

"$GATE_BIN/python" -m harness.cli.ci.pull_request event "${GITHUB_EVENT_PATH:?}" >event.txt
mapfile -t event <event.txt
base=${event[1]:-$GITHUB_SHA} head=$GITHUB_SHA # of a pull_request: what it would be once merged
if [ "${GITHUB_EVENT_NAME:-}" = pull_request_target ]; then
  if [ -n "${GATE_HEAD:-}" ] && [ "$(cd "$GITHUB_WORKSPACE" && cd "$GATE_HEAD" && pwd -P)" = "$(cd "$GITHUB_WORKSPACE" && pwd -P)" ]; then
    echo "harness gate: with pull_request_target the workspace is the base branch's: give head another folder" >&2
    exit 2
  fi
  head=${event[2]}
fi
if [ -n "${GATE_HEAD:-}" ]; then
  head=$(cd "$GITHUB_WORKSPACE" && cd "$GATE_HEAD" && pwd)
fi
export GATE_BASE=$base GATE_HEAD=$head
export GATE_URL="${GITHUB_SERVER_URL:-https://github.com}/${GITHUB_REPOSITORY:-}/actions/runs/${GITHUB_RUN_ID:-}"
exec bash "$here/gate.sh"
