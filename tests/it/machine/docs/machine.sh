# The environment for docs/DOCKER.md and docs/OPERATIONS.md. Sourced by bash, as root, in mount, network and PID
# namespaces of its own (tests/it/machine/docs/mod.rs). It has its own /etc, /run, engine and registry; `systemctl` is a
# function that knows the two services. $machine is its folder, $repo the checkout, $bin the programs under test,
# $registry_program Debian's docker-registry.
set -euo pipefail

ip link set lo up
cp -a /etc "$machine/etc"
touch "$machine/host.sock"
mount --bind "$(readlink -f /var/run/docker.sock)" "$machine/host.sock"
mount --bind "$machine/etc" /etc
mount -t tmpfs tmpfs /run
mkdir -p "$machine/docker-root" "$machine/home" "$machine/work" /run/assay /etc/assay
# the engine's folder, whatever it is on this machine
mount --bind "$machine/docker-root" /var/lib/docker
export HOME=$machine/home PATH=$bin:$PATH NO_COLOR=1
export ASSAY_IMAGES_DIR=$repo/images ASSAY_STATE_DIR=$machine/state
unset DOCKER_HOST DOCKER_CONTEXT DOCKER_CONFIG DOCKER_TLS_VERIFY DOCKER_CERT_PATH ASSAY_ENGINE_HOST ASSAY_SOCKET
mkdir /etc/assay/profiles
cp "$repo/config/profiles/bash.toml" /etc/assay/profiles/
printf '127.0.0.1 localhost engine.example registry.example\n' >/etc/hosts
rm -rf /etc/docker /etc/systemd/system/docker.service.d
mkdir -p /etc/docker
groupadd --force --system docker
id assay >/dev/null 2>&1 || useradd --system --no-create-home --shell /usr/sbin/nologin assay
cd "$machine/work"
ln -s "$repo/scripts" scripts
echo secret >"$HOME/password"

wait_for() { # wait_for SECONDS COMMAND...
  local left=$(($1 * 10)); shift
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || { echo "machine: not in time: $*" >&2; return 1; }
    sleep 0.1
  done
}

answers() { curl -fsS --max-time 2 --unix-socket /var/run/docker.sock http://docker/_ping; }

dockerd_start() {
  local start drop_in=/etc/systemd/system/docker.service.d/hosts.conf
  start='/usr/sbin/dockerd --host unix:///var/run/docker.sock'
  [ ! -e $drop_in ] || start=$(sed -n 's/^ExecStart=\(..*\)/\1/p' $drop_in | tail -n 1)
  # nothing here needs the engine's networks
  $start --bridge=none --iptables=false --ip6tables=false >>"$machine/dockerd.log" 2>&1 </dev/null &
  echo $! >"$machine/dockerd.pid"
  wait_for 60 answers || { tail -n 20 "$machine/dockerd.log" >&2; return 1; }
}
stop() { # stop NAME: another shell may have started it, so `wait` does not work
  [ -e "$machine/$1.pid" ] || return 0
  local pid
  pid=$(cat "$machine/$1.pid")
  rm "$machine/$1.pid"
  kill "$pid" 2>/dev/null || return 0
  wait_for 60 gone "$pid"
}
listens() { [ -n "$(ss -Hltn "sport = :$1")" ]; }
gone() { ! kill -0 "$1" || [ "$(cut -d ' ' -f 3 "/proc/$1/stat")" = Z ]; }
# a start that should fail and does not must not block the test
assayd() { timeout 120 "$bin/assayd" "$@"; }
assayd_start() {
  "$bin/assayd" >>"$machine/assayd.log" 2>&1 </dev/null &
  echo $! >"$machine/assayd.pid"
  wait_for 60 assay status || { tail -n 20 "$machine/assayd.log" >&2; return 1; }
}
systemctl() {
  case "$*" in
    daemon-reload) ;;
    'restart docker') stop dockerd; dockerd_start ;;
    'restart assayd' | 'start assayd' | 'start assayd.socket assayd.service') stop assayd; assayd_start ;;
    'reload assayd') assay reload ;;
    'stop assayd' | 'stop assayd.socket assayd.service') stop assayd ;;
    *) echo "machine: systemctl $* is not known here" >&2; return 1 ;;
  esac
}
at_end() {
  [ "$1" = 0 ] || tail -n 15 "$machine/dockerd.log" "$machine/assayd.log" 2>/dev/null || true
  stop assayd
  docker ps --all --quiet | xargs -r docker rm --force >/dev/null 2>&1 || true
  stop dockerd
  stop registry
}
trap 'at_end $?' EXIT

# a sandbox of the bash profile is ready: the newest of its profile on the engine
warm() { assay --json pools | jq -e '.pools[] | select(.profile == "bash" and .ready > 0)' >/dev/null; }

load() { # load IMAGE...: copies assay's images from the host's engine
  local image tags=()
  for image in "$@"; do
    while read -r tag; do tags+=("$tag"); done < <(
      docker --host "unix://$machine/host.sock" images --format '{{.Repository}}:{{.Tag}}' "assay/$image")
  done
  docker --host "unix://$machine/host.sock" save "${tags[@]}" | docker load >/dev/null
  # without a network the build has failed; a daemon that runs looks again by itself
  if [ -e "$machine/assayd.pid" ]; then wait_for 90 warm; fi
}

registry() { # a registry with a password, and team/bash:1 in it
  printf 'version: 0.1\nlog: {level: error}\nstorage: {filesystem: {rootdirectory: %s}}\n' "$machine/registry" >"$machine/registry.yml"
  printf "http: {addr: '127.0.0.1:5000'}\nauth: {htpasswd: {realm: test, path: %s}}\n" "$machine/htpasswd" >>"$machine/registry.yml"
  # bcrypt of "secret"
  printf '%s\n' 'grader:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW' >"$machine/htpasswd"
  "$registry_program" serve "$machine/registry.yml" >>"$machine/registry.log" 2>&1 </dev/null &
  echo $! >"$machine/registry.pid"
  wait_for 20 curl -s http://registry.example:5000/v2/
  docker login --username grader --password-stdin registry.example:5000 <~/password >/dev/null 2>&1
  docker tag "$(docker images --format '{{.Repository}}:{{.Tag}}' assay/bash | head -n 1)" registry.example:5000/team/bash:1
  docker push registry.example:5000/team/bash:1 >/dev/null
  docker image rm registry.example:5000/team/bash:1 >/dev/null
  docker logout registry.example:5000 >/dev/null
}

# symptoms that need more than one command

far_doctor() { # far_doctor FOLDER PORT: the doctor, with the certificates in FOLDER
  DOCKER_HOST=tcp://engine.example:$2 DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=$1 assay doctor --no-pull --config /dev/null
}
expired() {
  openssl s_server -quiet -accept 2399 -cert "$machine/expired/cert.pem" -key "$machine/expired/key.pem" </dev/null >/dev/null 2>&1 &
  local pid=$! status=0
  wait_for 20 listens 2399
  far_doctor "$machine/expired" 2399 || status=$?
  kill $pid
  return $status
}
other_authority() {
  scripts/docker-certs "$machine/other_authority" engine.example >/dev/null
  far_doctor "$machine/other_authority/client" 2376
}
keyless() {
  cp -r /etc/assay/engine "$machine/keyless"
  rm "$machine/keyless/key.pem"
  far_doctor "$machine/keyless" 2376
}
plaintext() {
  printf '[engine]\nhost = "tcp://engine.example:2376"\nallow_plaintext = true\n' >"$machine/plaintext.toml"
  assay doctor --no-pull --config "$machine/plaintext.toml"
}
distrust() {
  sed -i 's|^image = .*|image = "elsewhere.example/bash:1"|' /etc/assay/profiles/far.toml
  systemctl restart assayd
  assay images build far
}
logout() {
  sed -i 's|^image = .*|image = "registry.example:5000/team/bash:1"|' /etc/assay/profiles/far.toml
  docker logout registry.example:5000
  docker image rm --force registry.example:5000/team/bash:1
  systemctl restart assayd
  assay images build far
}
hang() {
  local status=0
  systemctl stop assayd
  kill -STOP "$(cat "$machine/dockerd.pid")"
  assay doctor --no-pull --engine unix:///var/run/docker.sock || status=$?
  kill -CONT "$(cat "$machine/dockerd.pid")"
  return $status
}

# symptoms of the log: provoked, shown, repaired

log_says() { wait_for 30 grep -F "$1" "$machine/assayd.log"; tail -n 20 "$machine/assayd.log"; }
broken_reload() {
  printf '[queue]\nmaxx = 3\n' >/etc/assay/assayd.toml.d/99-broken.toml
  kill -HUP "$(cat "$machine/assayd.pid")"
  log_says 'the new configuration is not applied'
  rm /etc/assay/assayd.toml.d/99-broken.toml
  return 1
}
misspelt_variable() {
  ASSAY_QUEUE_MAXX=3 assayd --check-config
  return 1
}
engine_gone() {
  stop dockerd
  log_says 'the engine does not answer'
  dockerd_start
  return 1
}
few_files() (
  ulimit -n 1000
  assayd --state-dir /run/second --socket /etc/hosts --set http.listen=127.0.0.1:0
)
