# Shared by the scripts beside it; sourced, never run.
# A script that calls `open_run_dir` owns a private run folder, perhaps an engine that it started, and perhaps a daemon;
# `finish` stops and removes them when the script ends.

say() { printf '\n== %s\n' "$*"; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

need_rust() {
  if ! command -v cargo >/dev/null && [ -r "${CARGO_HOME:-$HOME/.cargo}/env" ]; then
    # shellcheck disable=SC1091
    . "${CARGO_HOME:-$HOME/.cargo}/env"
  fi
  command -v cargo >/dev/null || die "Rust is needed: install it from https://rustup.rs, then run this again"
}

# missing_packages COMMAND=PACKAGE...: the packages whose commands are not there.
missing_packages() {
  local pair
  for pair in "$@"; do command -v "${pair%%=*}" >/dev/null || printf '%s ' "${pair#*=}"; done
}

# need_tools COMMAND=PACKAGE...: installs the packages whose commands are not there.
need_tools() {
  local missing
  missing=$(missing_packages "$@")
  [ -n "$missing" ] || return 0
  command -v apt-get >/dev/null || die "install ${missing% }, then run this again (only apt-get is supported here)"
  say "installing ${missing% }"
  as_root apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update -qq </dev/null
  # shellcheck disable=SC2086
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 install -y -qq \
    --no-install-recommends $missing </dev/null >/dev/null
}

linker="cc=gcc libc6-dev"
need_linker() { need_tools "$linker"; }

# What tests and benchmarks use besides Rust and an engine.
test_tools=("$linker" openssl=openssl ip=iproute2 curl=curl pgrep=procps jq=jq strace=strace nc.openbsd=netcat-openbsd
  /usr/bin/jsonschema=python3-jsonschema)
# What single tests use; without it they are skipped, unless ASSAY_REQUIRE_ALL=1.
optional_tools=(runsc=runsc lintian=lintian)

# Prints what the functions below are about to install.
announce_tools() {
  local missing
  missing=$(missing_packages dockerd=docker.io debootstrap=debootstrap "${test_tools[@]}" "${optional_tools[@]}")
  command -v promtool >/dev/null || [ -x "$prometheus/usr/bin/promtool" ] || missing+="prometheus (unpacked into $prometheus) "
  [ -e target/tools/http/installed ] || missing+="Python tools for HTTP (into target/tools/http) "
  [ -z "$missing" ] || say "this installs: ${missing% }"
}

need_test_tools() {
  need_tools "${test_tools[@]}"
  need_prometheus
}

# prometheus and promtool out of Debian's package, unpacked here: installing it would start its service.
prometheus=target/tools/prometheus
need_prometheus() {
  command -v promtool >/dev/null && command -v prometheus >/dev/null && return 0
  if [ ! -x "$prometheus/usr/bin/promtool" ]; then
    command -v apt-get >/dev/null || die "install prometheus, then run this again (only apt-get is supported here)"
    say "unpacking prometheus into $prometheus"
    as_root apt-get -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 update -qq </dev/null
    mkdir -p "$prometheus"
    (cd "$prometheus" && apt-get -o Acquire::Retries=3 -qq download prometheus >/dev/null && dpkg-deb -x prometheus_*.deb . && rm prometheus_*.deb)
  fi
  PATH=$PATH:$PWD/$prometheus/usr/bin
  export PATH
}

want_test_tools() {
  local tool
  for tool in "${optional_tools[@]}"; do
    (need_tools "$tool") || say "without ${tool%%=*}: its tests are skipped"
  done
}

# The programs of a release, and the folder they are built into.
programs=(-p assay-daemon -p assay-cli -p assay-init -p assay-egress)
bin_dir() { # bin_dir [PROFILE]
  local triple
  triple=$(rustc --print host-tuple 2>/dev/null) || triple=$(rustc -vV | sed -n 's/^host: //p')
  printf '%s/%s/%s' "${CARGO_TARGET_DIR:-target}" "$triple" "${1:-release}"
}

engine_up=''
engine_start() {
  say "the Docker Engine"
  engine_up=1
  ASSAY_RUN_DIR="$run_dir" scripts/host-engine start
}

engine_stop() {
  [ -n "$engine_up" ] || return 0
  engine_up=''
  ASSAY_RUN_DIR="$run_dir" scripts/host-engine stop
}

# Where AppArmor is on, Docker's own profile forbids the mounts of cells.
use_apparmor_profile() {
  [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ] && [ -z "${ASSAY_ENGINE_APPARMOR_PROFILE:-}" ] || return 0
  if [ "$(id -u)" = 0 ] && command -v apparmor_parser >/dev/null; then
    say "loading AppArmor's profile of cells, until the next boot"
    apparmor_parser --replace --skip-cache config/apparmor/assay-cell
    export ASSAY_ENGINE_APPARMOR_PROFILE=assay-cell
  else
    say "AppArmor is on and its profile config/apparmor/assay-cell is not loaded (as root): no cells, and slower"
  fi
}

daemon_pid=''
daemon_start() { # daemon_start LOG
  use_apparmor_profile
  "$bin/assayd" --config config/assayd.toml </dev/null >"$1" 2>&1 &
  daemon_pid=$!
  for _ in $(seq 300); do
    [ -S "$ASSAY_SOCKET" ] && "$bin/assay" --json status >/dev/null 2>&1 && return 0
    kill -0 "$daemon_pid" 2>/dev/null || break
    sleep 0.1
  done
  tail -n 40 "$1" >&2
  die "the daemon did not start; the end of its log is above"
}

daemon_stop() {
  [ -n "$daemon_pid" ] || return 0
  local pid=$daemon_pid status=0
  daemon_pid=''
  kill -TERM "$pid" 2>/dev/null || true
  # 60 s: more than drain_ms; later than that is a fault, and the reaper cleans up
  for _ in $(seq 600); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
  kill -KILL "$pid" 2>/dev/null || true
  wait "$pid" 2>/dev/null || status=$?
  return "$status"
}

# Waits until every pool holds its floor: 180 s at most.
pools_ready() {
  local pools=''
  for _ in $(seq 360); do
    pools=$("$bin/assay" --json pools) || return 1
    case $pools in *'"ready":'*) ;; *) sleep 0.5; continue ;; esac
    # one pool a line; a pool is short when `ready` is below `floor`
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

# Containers of this daemon's instance that are still on the engine.
left_behind() {
  local host="${ASSAY_ENGINE_HOST:-${DOCKER_HOST:-unix:///var/run/docker.sock}}"
  if command -v docker >/dev/null; then
    DOCKER_HOST="$host" docker ps -aq --filter label=assay.instance="$1" 2>/dev/null
  elif command -v curl >/dev/null && [ "${host#unix://}" != "$host" ]; then
    curl -sG --unix-socket "${host#unix://}" http://docker/containers/json --data-urlencode all=1 \
      --data-urlencode "filters={\"label\":[\"assay.instance=$1\"]}" | grep -o '"Id":"[0-9a-f]*"' || true
  else
    echo "(not checked: neither docker nor curl is installed)" >&2
  fi
}

# timed NAME COMMAND...: runs a step and prints how long it took. Its output goes to a log; `finish` shows the end of it when
# the step fails.
step_log=''
timed() {
  local name=$1 begun=$EPOCHREALTIME
  step_log=$run_dir/${1//[^a-z]/-}.log
  shift
  printf '  %-44s' "$name"
  "$@" >"$step_log" 2>&1 </dev/null || die "failed: $name"
  awk "BEGIN { printf \"%7.1f s\\n\", $EPOCHREALTIME - $begun }"
  step_log=''
}

# prepare NEEDED...: programs, engine and images for a daemon, side by side as far as they can be; sets `bin`.
# While cargo builds, the engine is installed and started, and the images' base is made from Debian's packages.
prepare() {
  bin=$(bin_dir demo)
  need_linker
  say "preparing"
  (ASSAY_RUN_DIR="$run_dir" scripts/host-engine start && base_tar) >"$run_dir/engine.log" 2>&1 </dev/null &
  local engine=$!
  engine_up=1
  timed "building assay (cargo, profile demo)" cargo build --quiet --profile demo --bins "${programs[@]}" "$@"
  timed "the engine and the images' base, meanwhile" wait_for_engine "$engine"
  export ASSAY_SOCKET="${ASSAY_SOCKET:-$run_dir/assay.sock}" ASSAY_STATE_DIR="${ASSAY_STATE_DIR:-$run_dir/state}"
  mkdir -p "$(dirname "$ASSAY_SOCKET")"
  daemon_log="$run_dir/assayd.log"
  timed "starting the daemon" daemon_start "$daemon_log"
  timed "the images of five languages" "$bin/assay" images build python c cpp javascript bash
  timed "waiting for warm sandboxes" pools_ready
}

wait_for_engine() {
  wait "$1" || { cat "$run_dir/engine.log"; return 1; }
}

# Makes the base's root file system ahead of the daemon, which takes it from BOOTSTRAP_TAR (images/base/bootstrap).
# Not needed where the base is there already or can be pulled.
base_tar() {
  [ "$(id -u)" = 0 ] && command -v docker >/dev/null || return 0
  [ -z "$(docker images -q assay/base)" ] || return 0
  timeout 60 docker pull -q debian:trixie-slim && return 0
  images/base/bootstrap >"$run_dir/base.tar.part" && mv "$run_dir/base.tar.part" "$BOOTSTRAP_TAR"
}

finish() {
  local status=$?
  trap - EXIT INT TERM HUP
  set +e
  [ -n "$daemon_pid" ] && { say "stopping the daemon"; daemon_stop; }
  [ -r "$step_log" ] && { say "the end of its output"; tail -n 40 "$step_log"; } >&2
  case $status in 0|130|143) ;; *) [ -r "${daemon_log:-}" ] && { say "the end of the daemon's log"; tail -n 40 "$daemon_log"; } >&2 ;; esac
  engine_stop
  [ -n "${run_dir:-}" ] && rm -rf -- "$run_dir"
  exit "$status"
}

open_run_dir() {
  run_dir=$(mktemp -d "${TMPDIR:-/tmp}/assay.XXXXXX")
  export BOOTSTRAP_TAR=$run_dir/base.tar
  trap finish EXIT
  trap 'exit 130' INT
  trap 'exit 143' TERM HUP
}
