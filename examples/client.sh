#!/usr/bin/env bash
# A client of assay's socket protocol with nc and jq: hands a program in with tests, follows it, prints the verdict.
#
#     client.sh LANGUAGE FILE INPUT=EXPECTED...
#     client.sh python double.py 21=42 -4=-8
#
# The submission has an id of the client's own (ASSAY_ID, or a random one), so a connection that breaks costs nothing: the client
# connects again, hands the same thing in under the same id, and goes on with the first event that it has not seen.
# Exit status: 0 accepted, 1 not accepted, 2 refused.
set -euo pipefail

[ $# -ge 3 ] || { sed -n 's/^# \{0,1\}//; 2,9p' "$0" >&2; exit 2; }
socket="${ASSAY_SOCKET:-/run/assay/assay.sock}"
id="${ASSAY_ID:-$(cat /proc/sys/kernel/random/uuid)}"
language=$1 file=$2
shift 2

submission=$(jq -n --arg id "$id" --arg language "$language" --arg name "${file##*/}" --rawfile content "$file" '
  { $id, $language, entry: $name, files: [{ path: $name, $content }],
    tests: [$ARGS.positional[] | capture("^(?<in>[^=]*)=(?<out>.*)$"; "m") | { stdin: (.in + "\n"), expect: .out }] }' \
  --args -- "$@")

next_seq=0
trap '' PIPE # a daemon that has gone is an error, not an end

# call NUMBER METHOD PARAMS: one line to the daemon.
call() {
  jq -cn --argjson id "$1" --arg method "$2" --argjson params "$3" '{ jsonrpc: "2.0", $id, $method, $params }' >&"$to"
}

# One connection: hello, the submission, then its events and its report, which lands in $report.
# Answers 0; 1 when the connection broke; 2 when refused for good; 3 when it is worth another try in $pause ms.
converse() {
  local line
  while IFS= read -r -t 60 line <&"$from"; do
    case $(jq -r '.method // (if .error then "error" else "result \(.id)" end)' <<<"$line") in
      server.hello) # the server speaks first
        jq -e '.params.protocol == 1' <<<"$line" >/dev/null || { echo "another protocol than 1" >&2; return 2; }
        call 1 submission.submit "$submission" || return 1 ;;
      "result 1")
        call 2 submission.wait "$(jq -cn --arg id "$id" --argjson from_seq "$next_seq" '{ $id, stream: true, $from_seq }')" || return 1 ;;
      submission.event)
        next_seq=$(jq '.params.seq + 1' <<<"$line")
        jq -r '.params | [.kind, .test, (.data // .data_b64)] | map(select(. != null) | tostring) | join(" ")' <<<"$line" >&2 ;;
      "result 2")
        report=$(jq -c .result <<<"$line")
        return 0 ;;
      error)
        jq -r '"refused: \(.error.data.code): \(.error.data.message)"' <<<"$line" >&2
        pause=$(jq '.error.data.retry_after_ms // 0' <<<"$line")
        [ "$pause" -gt 0 ] && return 3 || return 2 ;;
      *) return 1 ;; # the end of a line that was cut
    esac
  done
  return 1
}

session() {
  local status=0 pid
  coproc DAEMON { exec nc -U "$socket" 2>/dev/null; }
  # descriptors of our own: bash closes a coprocess's as soon as it ends, read or not
  pid=$DAEMON_PID
  exec {from}<&"${DAEMON[0]}" {to}>&"${DAEMON[1]}"
  converse || status=$?
  exec {from}<&- {to}>&-
  kill "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || true
  return "$status"
}

for _ in $(seq 300); do
  pause=0 report='' status=0
  session || status=$?
  case $status in
    0)
      jq -r '(.tests[] | "\(.name) \(.verdict)"), "\(.verdict) \(.score.passed)/\(.score.total)"' <<<"$report"
      [ "$(jq -r .verdict <<<"$report")" = accepted ]
      exit ;;
    1) echo "connection lost, connecting again" >&2; sleep 0.2 ;;
    2) exit 2 ;;
    3) sleep "$(jq -n "[$pause, 2000] | min / 1000")" ;;
  esac
done
exit 2
