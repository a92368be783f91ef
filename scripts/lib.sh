# Shared by scripts/demo, scripts/serve and scripts/test; sourced, never run.
# They own a private run folder, an engine that may have been started by us, and a daemon; `finish` gives all back.

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

need_rust() {
  if ! command -v cargo >/dev/null && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    # shellcheck disable=SC1091
    . "${CARGO_HOME:-$HOME/.cargo}/env"
  fi
  command -v cargo >/dev/null || die "Rust is needed: https://rustup.rs, then run this again"
}

# need_tools COMMAND=PACKAGE...: installs the packages whose commands are missing.
need_tools() {
  local pair missing=()
  for pair in "$@"; do command -v "${pair%%=*}" >/dev/null || missing+=("${pair#*=}"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null || die "please install ${missing[*]} (this script knows apt-get only)"
  say "installing ${missing[*]}"
  local sudo=''; [ "$(id -u)" = 0 ] || sudo=sudo
  $sudo apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update -qq </dev/null
  # shellcheck disable=SC2068
  $sudo env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends \
    ${missing[@]} </dev/null >/dev/null
}

need_linker() { need_tools "cc=gcc libc6-dev"; }

# What the tests and benchmarks use beside Rust and an engine.
need_test_tools() {
  need_tools "cc=gcc libc6-dev" openssl=openssl ip=iproute2 curl=curl pgrep=procps jq=jq nc.openbsd=netcat-openbsd \
    /usr/bin/jsonschema=python3-jsonschema
  need_prometheus
}

# prometheus and promtool, without the service that comes with them: a test starts one of its own.
need_prometheus() {
  if command -v promtool >/dev/null; then return 0; fi
  local sudo='' systemd=''; [ "$(id -u)" = 0 ] || sudo=sudo
  [ -d /run/systemd/system ] && systemd=1
  # masked, it is not started by its installation
  [ -z "$systemd" ] || $sudo systemctl mask --quiet prometheus.service
  need_tools promtool=prometheus
  [ -z "$systemd" ] || { $sudo systemctl unmask --quiet prometheus.service; $sudo systemctl disable --quiet prometheus.service; }
}

# What a test does without, and says so: not every distribution has it.
want_test_tools() {
  (need_tools runsc=runsc) || say "without runsc: nothing is tried under gVisor"
  (need_tools lintian=lintian) || say "without lintian: nobody looks the package over"
}

bin_dir() {
  local triple
  triple=$(rustc --print host-tuple 2>/dev/null) || triple=$(rustc -vV | sed -n 's/^host: //p')
  printf '%s/%s/release' "${CARGO_TARGET_DIR:-target}" "$triple"
}

engine_up=''
engine_start() {
  say "the Docker Engine"
  engine_up=1
  ASSAY_RUN_DIR="$run_dir" scripts/engine start
  # Where it listens, when the engine script had to start one of its own.
  if [ -r "$run_dir/engine.env" ]; then set -a; . "$run_dir/engine.env"; set +a; fi
}

engine_stop() {
  [ -n "$engine_up" ] || return 0
  engine_up=''
  ASSAY_RUN_DIR="$run_dir" scripts/engine stop
}

daemon_pid=''
daemon_start() { # daemon_start LOG
  "$bin/assayd" --config config/assayd.toml </dev/null >"$1" 2>&1 &
  daemon_pid=$!
  for _ in $(seq 300); do
    [ -S "$ASSAY_SOCKET" ] && "$bin/assay" --json status >/dev/null 2>&1 && return 0
    kill -0 "$daemon_pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 40 "$1" >&2
  die "the daemon did not come up; its log's end stands above"
}

daemon_stop() {
  [ -n "$daemon_pid" ] || return 0
  local pid=$daemon_pid status=0
  daemon_pid=''
  kill -TERM "$pid" 2>/dev/null || true
  # 60 s: more than drain_ms; after that it is a fault, and the reaper's turn.
  for _ in $(seq 600); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || status=$?
  return "$status"
}

# Waits until every pool holds its floor. A pool that is broken, or 180 s, ends it.
pools_ready() {
  local pools=''
  for _ in $(seq 360); do
    pools=$("$bin/assay" --json pools) || return 1
    case $pools in *'"ready":'*) ;; *) sleep 0.5; continue ;; esac
    # One pool a line; short is one whose ready is below its floor.
    if ! printf '%s' "$pools" | tr '{}' '\n\n' | awk '
      function field(name) { return match($0, "\"" name "\": *[0-9]+") ? substr($0, RSTART + length(name) + 3, RLENGTH - length(name) - 3) + 0 : 0 }
      /"floor"/ && field("ready") < field("floor") { short = 1 }
      END { exit !short }'; then
      return 0
    fi
    kill -0 "$daemon_pid" 2>/dev/null || return 1
    sleep 0.5
  done
  "$bin/assay" pools >&2
  return 1
}

# Containers of this daemon's instance that are still on the engine; doctor asks the Engine, no docker CLI needed.
left_behind() {
  local host="${ASSAY_ENGINE_HOST:-${DOCKER_HOST:-unix:///var/run/docker.sock}}"
  if command -v docker >/dev/null; then
    DOCKER_HOST="$host" docker ps -aq --filter label=assay.instance="$1" 2>/dev/null
  elif command -v curl >/dev/null && [ "${host#unix://}" != "$host" ]; then
    curl -sG --unix-socket "${host#unix://}" http://docker/containers/json --data-urlencode all=1 \
      --data-urlencode "filters={\"label\":[\"assay.instance=$1\"]}" | grep -o '"Id":"[0-9a-f]*"' || true
  else
    echo "(not checked: neither docker nor curl here)" >&2
  fi
}

finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  set +e
  [ -n "$daemon_pid" ] && { say "stopping the daemon"; daemon_stop; }
  case $status in 0|130|143) ;; *) [ -r "${daemon_log:-}" ] && { say "the end of the daemon's log"; tail -n 40 "$daemon_log"; } >&2 ;; esac
  engine_stop
  [ -n "${run_dir:-}" ] && rm -rf -- "$run_dir"
  exit "$status"
}

open_run_dir() {
  run_dir=$(mktemp -d "${TMPDIR:-/tmp}/assay.XXXXXX")
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}
