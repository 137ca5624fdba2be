#!/usr/bin/env bash
# Judges the answers of both sides of a pull request, and gates. It runs in any CI; github.sh says what GitHub knows.
# Nothing of the pull request is run or configures anything: its answers are read, and all else is the base's.
#
# Environment: GATE_BIN (folder of `harness`), GATE_REPOSITORY (a clone), GATE_WORK (an empty folder, or one with
# verdicts.tar.gz), GATE_BASE (a commit), GATE_HEAD (a commit, or a folder with answers), GATE_RECIPE, GATE_MAX_COST;
# optional: GATE_ROW, GATE_BASELINE, GATE_WITHOUT_BASELINE, GATE_OPTIONS, GATE_ALLOW_HOSTS, GATE_JUDGE_KEY,
# GATE_JUDGE_KEY_VARIABLE, GATE_URL.
# It leaves in GATE_WORK: comment.md, gate.xml, verdicts.tar.gz, boards/. Exit codes: those of `harness gate`.
set -euo pipefail

work=${GATE_WORK:?} bin=${GATE_BIN:?}
verdicts=$work/verdicts.tar.gz
export PYTHONSAFEPATH=1 # no module is imported from where a command runs
key=${GATE_JUDGE_KEY:-} key_variable=${GATE_JUDGE_KEY_VARIABLE:-OPENAI_API_KEY}
unset GATE_JUDGE_KEY
board='' row='' base_row='' ended=''

# The last words, also of a run that ends early: comment.md, the verdicts that were paid for, and the outputs.
# shellcheck disable=SC2329 # the trap calls it
finish() {
  code=$?
  trap - EXIT
  set +e
  before=$(sum_of "$verdicts")
  if compgen -G "$work/store/journals/verdicts-*.jsonl" >/dev/null; then
    "$bin/harness" cache export "$verdicts" --journals --store "$work/store"
  fi
  asked=false
  [ "$before" = "$(sum_of "$verdicts")" ] || asked=true
  {
    case $ended-$code in
      yes-0) echo "## Gate: not worse" ;;
      yes-1) echo "## Gate: worse" ;;
      yes-3) echo "## Gate: inconclusive" ;;
      yes-*) echo "## Gate: not comparable" ;;
      none-*) echo "## Gate: no baseline yet" ;;
      *) echo "## Gate: not judged" ;;
    esac
    echo
    if [ -n "$ended" ]; then
      without_heading "$work/gate.md"
      if [ -s "$work/base.md" ]; then
        printf '\n### Beside the answers of the base branch, for information\n\n'
        without_heading "$work/base.md"
      fi
    else
      echo "It ended before it could compare:"
      echo
      # As code: whatever it says is shown as it is.
      { grep '^harness' "$work/log.txt" || tail -n 1 "$work/log.txt"; } | tail -n 1 | sed 's/^/    /'
    fi
    echo
    grep -h '^Judging: ' "$work/log.txt" 2>/dev/null | tail -n 1
    [ -z "${GATE_URL:-}" ] || printf '\n[The run, with the board and its page](%s)\n' "$GATE_URL"
  } >"$work/comment.md"
  if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then
    cat "$work/comment.md" >>"$GITHUB_STEP_SUMMARY"
  fi
  if [ -n "${GITHUB_OUTPUT:-}" ]; then
    [ -d "$board" ] || board=''
    printf '%s\n' "code=$code" "asked=$asked" "board=$board" "comment=$work/comment.md" >>"$GITHUB_OUTPUT"
  fi
  exit "$code"
}

# What goes wrong is a line of the log too, and of the comment.
fail() {
  echo "harness gate: $1" | tee -a "$work/log.txt" >&2
  exit 2
}

# shellcheck disable=SC2329
sum_of() {
  if [ -f "$1" ]; then cksum <"$1"; fi
}

# shellcheck disable=SC2329
without_heading() {
  grep -v '^## ' "$1" | sed '1{/^$/d}'
}

repository() {
  git -c core.hooksPath=/dev/null -c core.fsmonitor=false -C "$GATE_REPOSITORY" "$@"
}

# Whether the checkout of a stranger has brought files of the folder in which verdicts are kept.
is_theirs() {
  case $work/ in
    "$GATE_REPOSITORY"/*) [ -n "$(repository ls-files -- "$work")" ] ;;
    *) false ;;
  esac
}

# A checkout of a commit, which is fetched if it isn't there.
checkout() {
  local depth=()
  [ "$(repository rev-parse --is-shallow-repository)" = false ] || depth=(--depth=1)
  repository cat-file -e "$1^{commit}" 2>/dev/null ||
    repository fetch --quiet --no-tags "${depth[@]}" origin "$1" ||
    fail "commit $1 can't be fetched; check out the repository first, with its credentials"
  repository worktree prune
  repository worktree add --quiet --force --detach "$2" "$1" || fail "commit $1 can't be checked out"
}

if is_theirs; then
  echo "harness gate: the repository has files of its own in GATE_WORK, $work: name another folder" >&2
  exit 2
fi
mkdir -p "$work"
rm -rf "$work/base" "$work/head" "$work/boards" "$work/store" "$work/gate.md" "$work/base.md" "$work/gate.xml"
: >"$work/log.txt"
trap finish EXIT
cd "$work"

case ${GATE_WITHOUT_BASELINE:=fail} in pass | fail) ;; *) fail "without-baseline: expected pass or fail" ;; esac
[[ $key_variable =~ ^[A-Z][A-Z0-9_]*$ ]] || fail "judge-key-variable: expected a name like OPENAI_API_KEY"
[[ ${GATE_MAX_COST:-} =~ ^[0-9]+(\.[0-9]+)?$ ]] || fail "max-cost: expected dollars, such as 2.50"
read -r -d '' -a options <<<"${GATE_OPTIONS:-}" || true

checkout "$GATE_BASE" "$work/base"
head=$work/head
if [ -d "$GATE_HEAD" ]; then
  head=$GATE_HEAD
elif [ "$GATE_HEAD" = "$GATE_BASE" ]; then
  head=$work/base
else
  GIT_LFS_SKIP_SMUDGE=1 checkout "$GATE_HEAD" "$head"
fi

[ -f "$work/base/$GATE_RECIPE" ] || fail "$GATE_RECIPE is not in the base branch; merge it first: a pull request doesn't say how it is judged"
if ! "$bin/python" -m harness.cli.ci.pull_request pair "$work/base" "$head" "$GATE_RECIPE" "${GATE_ROW:-}" \
  >pair.txt 2>>"$work/log.txt"; then
  tail -n 1 "$work/log.txt" >&2
  exit 2
fi
mapfile -t pair <pair.txt
recipe=${pair[0]} row=${pair[2]} base_row=${pair[3]:-}
board=$work/boards/${pair[1]}

if [ -s "$verdicts" ]; then
  "$bin/harness" cache import "$verdicts" --store "$work/store" || echo "its verdicts are asked again"
fi
cd "$work/base"
judge() (
  [ -z "$key" ] || export "$key_variable=$key"
  export HARNESS_ALLOW_HOSTS="${HARNESS_ALLOW_HOSTS:-} ${GATE_ALLOW_HOSTS:-}"
  exec "$bin/harness" run "$recipe" --leaderboards "$work/boards" --store "$work/store" --max-cost "$GATE_MAX_COST"
)
judge 2>&1 | tee -a "$work/log.txt" || exit 2

code=0
if [ -f "${GATE_BASELINE:=baseline.json}" ]; then
  "$bin/harness" gate "$board" --row "$row" --baseline "$GATE_BASELINE" "${options[@]}" \
    --markdown "$work/gate.md" --junit "$work/gate.xml" 2>&1 | tee -a "$work/log.txt" || code=$?
  [ -f "$work/gate.md" ] || exit 2 # an option that is none, or one that shows help
else
  [ "$GATE_WITHOUT_BASELINE" = pass ] || code=2
  cat >"$work/gate.md" <<END
The base branch has no \`$GATE_BASELINE\`, so there is nothing to compare with yet ($GATE_WITHOUT_BASELINE, as asked).
Download this run's artifact, which is the board, and commit a baseline of it to the base branch:

    harness baseline promote FOLDER --row ${base_row:-$row} -o $GATE_BASELINE
END
  ended=none
  echo "harness gate: no $GATE_BASELINE in the base branch: harness baseline promote writes one"
fi
ended=${ended:-yes}
if [ -n "$base_row" ]; then
  "$bin/harness" gate "$board" --row "$row" --baseline-row "$base_row" "${options[@]}" --markdown "$work/base.md" || true
fi
exit "$code"
