# Steps on the machine of tests/it/machine/systemd: `bash inside.sh STEP`, as root, PID 1 is systemd. Each ends with 0 only if everything
# that its name says is true.
set -Eeuo pipefail
export NO_COLOR=1 DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

fail() {
  echo "FAILED: $*" >&2
  { systemctl status assayd.service assayd.socket docker.service --no-pager --lines 0 || true
    journalctl --unit 'assay*' --no-pager --lines 40 || true; } >&2
  exit 1
}
trap 'fail "line $LINENO: $BASH_COMMAND"' ERR

wait_for() { # wait_for SECONDS WHAT COMMAND...
  local left=$(($1 * 10)) what=$2; shift 2
  until "$@" >/dev/null 2>&1; do
    left=$((left - 1))
    [ "$left" -gt 0 ] || fail "never came true: $what"
    sleep 0.1
  done
}

property() { systemctl show --value --property "$1" "${2:-assayd.service}"; }
is_active() { [ "$(property ActiveState)" = active ]; }
main_pid() { property MainPID; }
has_new_pid() { [ "$(main_pid)" != "$1" ] && [ "$(main_pid)" != 0 ] && is_active; }
ours() { docker ps --all --quiet --filter label=assay.instance; }
# read to its end: grep -q would leave journalctl with a broken pipe
logged() { journalctl --unit assayd.service --no-pager --output cat | grep -F -- "$1" >/dev/null; }

judges() { # judges [WORDS]: one submission, in a sandbox that only assay makes
  local out
  out=$(assay run /root/hello.sh)
  [ "$out" = hello ] || fail "said $out"
}

all_of_it() { # every file on the machine that bears the name
  find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /var/lib/docker \) -prune -o -name '*assay*' -print
  find /run -xdev -name '*assay*' -not -path '/run/docker*' -print
}

prepare() {
  # as systemd does on a machine that is no container: LoadCredential= needs it
  mount --make-rshared /
  all_of_it >/root/before
  printf 'echo hello\n' >/root/hello.sh
  # one profile: its image is here already, and nothing is built beside the test
  mkdir -p /etc/systemd/system/assayd.service.d
  printf '[Service]\nEnvironment=ASSAY_PROFILES=bash\n' >/etc/systemd/system/assayd.service.d/profiles.conf
}

# From the package to a verdict, with no file edited.
install_it() {
  local begun=$EPOCHREALTIME
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends ./$1 >/root/apt.log 2>&1 || { cat /root/apt.log; exit 1; }
  if [ -z "$(docker images --quiet assay/bash)" ]; then
    # no registry is reached here: the base is made by root's unit, for a daemon that is not root
    local building=$EPOCHREALTIME
    assay images build bash
    echo "images from nothing: $(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $building }") s"
    begun=$(awk "BEGIN { printf \"%.3f\", $begun + $EPOCHREALTIME - $building }")
  fi
  judges
  echo "from the package to the first verdict, images aside: $(awk "BEGIN { printf \"%.1f\", $EPOCHREALTIME - $begun }") s"
  is_active
  for unit in assayd.socket assayd.service assay-bootstrap.socket assay-egress.socket; do systemctl is-enabled --quiet $unit; done
  [ "$(stat -c '%U:%G %a' /run/assay/assay.sock)" = root:assay\ 660 ]
  [ "$(stat -c '%U:%G %a' /run/assay-egress/egress.sock)" = assay:assay\ 600 ]
  [ "$(stat -c '%U:%G %a' /var/lib/assay)" = assay:assay\ 700 ]
  [ "$(ps -o user= -p "$(main_pid)")" = assay ]
  # a group of its own, and the engine's: nothing else
  [ "$(id -nG assay)" = assay ]
  assay status >/dev/null
  apparmor_parser --skip-kernel-load --skip-cache /etc/apparmor.d/assay-cell 2>/dev/null || fail "AppArmor's profile is wrong"
  if [ "$(cat /sys/module/apparmor/parameters/enabled 2>/dev/null)" = Y ]; then
    [ "$(ls /etc/assay/assayd.toml.d)" = 60-apparmor.toml ]
    docker inspect --format '{{.AppArmorProfile}}' $(ours) | grep -qx assay-cell || fail "sandboxes have another profile"
  else
    [ ! -e /etc/assay/assayd.toml.d ]
  fi
  assayd --check-config | grep -E '^reuse = "always"' >/dev/null
}

# Who is in the group may submit, who is not may not; administration is root's.
roles_are_by_group() {
  id alice >/dev/null 2>&1 || { useradd --groups assay alice; useradd bob; }
  local out=''
  cp /root/hello.sh /tmp/hello.sh
  [ "$(setpriv --reuid alice --regid alice --init-groups assay run /tmp/hello.sh)" = hello ]
  ! out=$(setpriv --reuid bob --regid bob --init-groups assay run /tmp/hello.sh 2>&1) || fail "bob was let in"
  case $out in *ermission*) ;; *) fail "bob was told: $out" ;; esac
  ! setpriv --reuid alice --regid alice --init-groups assay reload >/dev/null 2>&1 || fail "alice may reload"
}

# The units are as tight as promised, and the running process is under them.
hardened() {
  systemd-analyze security --no-pager --threshold=15 assayd.service | tail -n 1
  local status
  status=/proc/$(main_pid)/status
  grep -q '^NoNewPrivs:.1' "$status"
  grep -q '^Seccomp:.2' "$status"
  grep -q '^CapBnd:.0000000000000000' "$status"
  # the network of its own has a loopback and nothing else
  [ "$(nsenter --net --target "$(main_pid)" ip -o link | wc -l)" = 1 ]
  # the reaper runs under the same
  local reaper
  reaper=$(pgrep -u assay -f -- '--reap')
  grep -q '^Seccomp:.2' "/proc/$reaper/status"
}

# What a run used is read from its cgroup; an exceeded limit is named.
counts_by_cgroup() {
  local report
  printf 'i=0; while [ $i -lt 3000 ]; do i=$((i + 1)); done; echo counted\n' >/root/count.sh
  report=$(assay --json run --cpu-ms 60000 --wall-ms 120000 /root/count.sh)
  grep -q '"verdict": *"accepted"' <<<"$report" || fail "$report"
  grep -qE '"memory_source": *"(peak|cgroup|kernel|max_usage|sampled)' <<<"$report" || fail "$report"
  grep -qE '"cpu_ms": *[1-9]' <<<"$report" || fail "$report"
  printf 'x=$(head -c 100000000 /dev/zero | tr "\\0" x); echo ${#x}\n' >/root/hog.sh
  report=$(assay --json run --cpu-ms 60000 --wall-ms 120000 --memory-bytes 67108864 /root/hog.sh) || true
  grep -q '"verdict": *"memory_limit"' <<<"$report" || fail "$report"
  local bytes
  bytes=$(grep -oE '"memory_bytes": *[0-9]+' <<<"$report" | grep -oE '[0-9]+$')
  [ "$bytes" -gt 67108864 ] || fail "$report"
}

# Python starts from its loaded runtime on this kernel, and its limits hold there.
starts_python_hot() {
  local report tries=15
  sed -i 's/ASSAY_PROFILES=bash/ASSAY_PROFILES=bash,python/' /etc/systemd/system/assayd.service.d/profiles.conf
  systemctl daemon-reload
  systemctl restart assayd.service
  python() { report=$(assay --json run --cpu-ms 60000 --wall-ms 120000 "$@"); }
  # the name that the waiting runtime has
  printf 'import atexit\natexit.register(print, "ended")\nprint(1)\n' >/root/main.py
  python /root/main.py
  # a runtime loads while nothing runs
  until grep -q '"start": *"hot"' <<<"$report"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || fail "no run of Python was hot: $report $(assay --json pools)"
    sleep 20
    python /root/main.py
  done
  grep -q '"verdict": *"accepted"' <<<"$report" || fail "$report"
  grep -qF '"1\nended\n"' <<<"$report" || fail "$report"
  printf 'a = bytearray(100 << 20)\n' >/root/hog.py
  python --memory-bytes 67108864 /root/hog.py || true
  grep -q '"verdict": *"memory_limit"' <<<"$report" || fail "$report"
  sed -i 's/ASSAY_PROFILES=bash,python/ASSAY_PROFILES=bash/' /etc/systemd/system/assayd.service.d/profiles.conf
  systemctl daemon-reload
  systemctl restart assayd.service
}

# Nothing runs; a caller comes, and is served.
socket_starts_it() {
  systemctl stop assayd.service
  [ "$(property ActiveState)" = inactive ]
  [ -z "$(ours)" ] || fail "sandboxes are left after a stop: $(ours)"
  [ -S /run/assay/assay.sock ] || fail "the daemon removed systemd's socket"
  judges
  is_active
}

# What was judged is found again over restarts and upgrades, in private files of the daemon's user.
keeps_history() {
  local file
  assay run --json /root/hello.sh >/root/report.json
  id=$(grep -oE '"id": *"[0-9a-f-]{36}"' /root/report.json | head -1 | grep -oE '[0-9a-f-]{36}')
  assay receipt "$id" >/root/receipt.json
  systemctl restart assayd.service
  finds_history
  for file in assay.db assay.db-wal receipt-key.pem callback-secret; do
    [ "$(stat -c '%a %U' "/var/lib/assay/$file")" = "600 $(property User)" ] || fail "$(stat "/var/lib/assay/$file")"
  done
  assay store check
  assay store backup /root/copy.db
  [ "$(stat -c %a /root/copy.db)" = 600 ] && [ ! -e /var/lib/assay/backup ]
}

finds_history() {
  assay show "$(grep -oE '[0-9a-f-]{36}' /root/report.json | head -1)" >/dev/null
  assay history --verdict accepted --since yesterday | grep -F bash >/dev/null
  assay receipt verify /root/receipt.json
}

reloads() {
  local before out=''
  before=$(main_pid)
  cp /etc/assay/assayd.toml /root/assayd.toml
  mkdir -p /etc/assay/assayd.toml.d
  printf '[queue]\npatience = "90s"\n' >/etc/assay/assayd.toml.d/10-queue.toml
  systemctl reload assayd
  wait_for 10 'the new configuration is in effect' logged 'the new configuration is in effect'
  is_active
  printf '[queue]\nmaxx = 1\n' >/etc/assay/assayd.toml
  ! systemctl reload assayd 2>/dev/null || fail "a wrong configuration was taken over"
  wait_for 10 'it says what is wrong' logged maxx
  is_active
  cp /root/assayd.toml /etc/assay/assayd.toml
  systemctl reload assayd
  [ "$(main_pid)" = "$before" ] || fail "a reload restarted it"
  judges
}

warm() { [ -n "$(ours)" ]; }

http=http://127.0.0.1:9464
asked() { curl -fsS --max-time 30 "$http/$1"; }

# Closed by default; opened by the two commands of docs/OPERATIONS.md, in the machine's network, while the daemon's own stays
# empty.
has_an_http_listener() {
  local before
  ! asked health >/dev/null 2>&1 || fail "HTTP answers before it was enabled"
  systemctl enable --quiet assay-http.socket
  systemctl restart assayd
  # at once: a restart must not cause an alert
  asked health | grep -E '"status":"(healthy|degraded)"' >/dev/null
  asked metrics | grep '^assay_draining 0' >/dev/null
  hardened >/dev/null
  # callers come as before, by their own socket
  judges
  # a scrape starts nothing; HTTP comes back with the daemon, also after a crash
  systemctl stop assayd
  ! asked livez >/dev/null 2>&1 || fail "HTTP answers without a daemon"
  [ "$(property ActiveState)" = inactive ] || fail "a scrape started the daemon"
  judges
  asked livez >/dev/null
  before=$(main_pid)
  systemctl kill --kill-whom=main --signal=KILL assayd
  wait_for 60 'systemd starts another' has_new_pid "$before"
  wait_for 10 'HTTP answers again' asked livez
  # a port of the daemon's own cannot be: what is said instead can be typed
  local drop_in=/etc/systemd/system/assayd.service.d/http.conf
  printf '[Service]\nEnvironment=ASSAY_HTTP_LISTEN=127.0.0.1:9465\nRestart=no\n' >$drop_in
  systemctl disable --quiet assay-http.socket
  systemctl daemon-reload
  systemctl stop assayd.service assay-http.socket assayd.socket
  ! systemctl start assayd 2>/dev/null || fail "it listens on a port, in an empty network"
  wait_for 10 'it says which unit has a network' logged 'systemctl enable assay-http.socket'
  rm $drop_in
  systemctl daemon-reload
  systemctl enable --quiet assay-http.socket
  systemctl restart assayd.socket assayd
  asked livez >/dev/null
}

# The status of a request with these words; its answer is in /root/answer.
status_of() { curl -sS --max-time 60 -o /root/answer -w '%{http_code}' "$@"; }
judged() { # judged TOKEN: a program is judged over HTTP
  local program='{"language":"bash","files":[{"path":"main.sh","content":"echo by http"}]}'
  [ "$(status_of "$http/api/v1/submissions" -H "Authorization: Bearer $1" --json "$program")" = 200 ] || return 1
  grep -F '"stdout":"by http\n"' /root/answer >/dev/null
}

# The API on the listener that systemd opened: one setting and one token, as docs/HTTP.md has it.
serves_the_api() {
  local token
  [ "$(status_of "$http/api/v1/profiles")" = 404 ] || fail "the API is served before it was asked for"
  printf '[http]\napi = true\n' >/etc/assay/assayd.toml.d/40-http.toml
  systemctl restart assayd
  [ "$(status_of "$http/api/v1/profiles")" = 401 ] || fail "without a token: $(cat /root/answer)"
  assay token add ci --tenant course --expires 30d --json >/root/token.json
  token=$(grep -oE 'assay_[0-9a-f]{64}' /root/token.json)
  judged "$token" || fail "$(cat /root/answer)"
  keeps_tokens
  # it is kept as a hash, and nothing of it is in the log
  ! grep -aF "$token" /var/lib/assay/assay.db* || fail "the store has the token"
  ! journalctl --no-pager --output cat | grep -F "$token" || fail "the log has the token"
  journalctl --unit assayd.service --no-pager --output json | grep -F token.add >/dev/null || fail "no line of audit"
  assay token add old --tenant course --json >/root/old.json
  assay token revoke old
  ! judged "$(grep -oE 'assay_[0-9a-f]{64}' /root/old.json)" || fail "a revoked token is accepted"
  hardened >/dev/null
}

# Tokens outlive restarts and upgrades.
keeps_tokens() {
  systemctl restart assayd
  judged "$(grep -oE 'assay_[0-9a-f]{64}' /root/token.json)" || fail "$(cat /root/answer)"
  assay token list | grep -F ci >/dev/null
}

# A Prometheus out of Debian, with the configuration that is shipped: it scrapes, and the daemon's host is up in what it has.
is_scraped() {
  says_one() { promtool query instant http://127.0.0.1:9090 "$1" | grep -F '=> 1 @' >/dev/null; }
  asked metrics | promtool check metrics
  cp /usr/share/assay/prometheus/{assay.rules.yml,prometheus.yml} /etc/prometheus/
  sed -i 's/15s/1s/' /etc/prometheus/prometheus.yml
  promtool check config /etc/prometheus/prometheus.yml >/dev/null
  systemctl restart prometheus
  wait_for 60 'Prometheus scrapes it' says_one 'up{job="assay"}'
  wait_for 60 'its host is up' says_one 'sum(assay_host_state{state="up"})'
  systemctl stop prometheus
  rm /etc/prometheus/assay.rules.yml
}

# Asks assay-egress as a user: `ask_egress USER REQUEST`.
ask_egress() {
  printf '%s' "$2" | setpriv --reuid "$1" --regid "$1" --init-groups perl -MSocket -e '
    socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un("/run/assay-egress/egress.sock")) or die "$!\n";
    local $/; syswrite $s, <STDIN>; print <$s>'
}
callback() { printf '{"request":"callback","url":"%s","delivery":"d","signature":"s","body_bytes":2}\n{}' "$1"; }

# The process with the network: started by the daemon's first question, under a user of its own that sees neither state nor
# engine; a report of a token's submission reaches its receiver.
delivers_callbacks() {
  local drop_in=/etc/assay/assayd.toml.d/40-callbacks.toml token=assay_0000000000000000000000000000000000000000000000000000000000000000
  local pid said status egress=assay-egress.service
  [ "$(property ActiveState $egress)" = inactive ] || fail "it runs although no callbacks are configured"
  cat >/root/receiver.pl <<'END'
use IO::Socket::INET;
my $listener = IO::Socket::INET->new(LocalAddr => "127.0.0.1:9470", Listen => 5, ReuseAddr => 1) or die;
while (my $stream = $listener->accept) {
  my $text = "";
  while (sysread $stream, $text, 65536, length $text) { last if $text =~ /\}\s*$/ }
  open my $file, ">>", "/root/arrived"; print $file $text; close $file;
  print $stream "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"; close $stream;
}
END
  perl /root/receiver.pl & local receiver=$!
  mkdir -p "${drop_in%/*}"
  {
    printf '[http]\napi = true\ncallbacks = ["http://127.0.0.1:9470"]\n[[http.tokens]]\nname = "ci"\ntenant = "t"\n'
    printf 'sha256 = "%s"\n' "$(printf %s $token | sha256sum | cut -d ' ' -f 1)"
  } >$drop_in
  systemctl restart assayd
  egress_is_active() { [ "$(property ActiveState $egress)" = active ]; }
  wait_for 60 'the daemon starts it' egress_is_active
  pid=$(property MainPID $egress) status=/proc/$(property MainPID $egress)/status
  [ "$(ps -o user= -p "$pid")" = assay-egress ] || fail "it runs as $(ps -o user= -p "$pid")"
  [ "$(id -nG assay-egress)" = assay-egress ]
  systemd-analyze security --no-pager --threshold=25 $egress | tail -n 1
  grep -q '^NoNewPrivs:.1' "$status"
  grep -q '^Seccomp:.2' "$status"
  grep -q '^CapBnd:.0000000000000000' "$status"
  [ -z "$(nsenter --mount --target "$pid" ls -A /var/lib/assay)" ] || fail "it sees the state"
  docker version >/dev/null
  ! nsenter --mount --target "$pid" docker version >/dev/null 2>&1 || fail "it reaches the engine"
  # the daemon may ask, others may not
  ! ask_egress bob '{"request":"probe"}
' 2>/dev/null || fail "bob may ask"
  said=$(ask_egress assay "$(callback http://127.0.0.1:9470/by-hand)")
  [ "$said" = '{"reply":"answered","status":200}' ] || fail "$said"
  for url in http://127.0.0.1:9464/ http://127.0.0.1:9470@evil/ https://example.org/; do
    said=$(ask_egress assay "$(callback $url)")
    case $said in '{"reply":"refused"'*) ;; *) fail "$url: $said" ;; esac
  done
  # killed, it is started by the next question
  systemctl kill --signal=KILL $egress
  [ "$(ask_egress assay '{"request":"probe"}
')" = '{"reply":"ready"}' ]
  rm -f /root/arrived
  curl -fsS --max-time 30 -H "Authorization: Bearer $token" -H 'Content-Type: application/json' -d '{"language":"bash",
    "files":[{"path":"a.sh","content":"echo hello"}],"callback_url":"http://127.0.0.1:9470/hook"}' "$http/api/v1/submissions?wait=false"
  delivered() { grep -F '"verdict":"accepted"' /root/arrived && grep -i '^assay-signature: t=' /root/arrived; }
  wait_for 60 'the report arrives' delivered
  assay health | grep -F callbacks >/dev/null
  kill $receiver
  rm -r $drop_in /root/receiver.pl
  rmdir "${drop_in%/*}" 2>/dev/null || true
  systemctl stop $egress
  systemctl restart assayd
}

# Stopped as by a debugger: no watchdog notification comes, systemd kills it, its sandboxes go, and it is back.
survives_the_watchdog() {
  local before old
  printf '[Service]\nWatchdogSec=3\n' >/etc/systemd/system/assayd.service.d/watchdog.conf
  systemctl daemon-reload
  systemctl restart assayd.service
  before=$(main_pid)
  wait_for 30 'a sandbox is ready' warm
  old=$(ours)
  # a healthy daemon is not killed
  sleep 7
  [ "$(main_pid)" = "$before" ] || fail "a healthy daemon was ended by its watchdog"
  kill -STOP "$before"
  wait_for 60 'systemd starts another' has_new_pid "$before"
  wait_for 10 'systemd says why' logged 'Watchdog timeout' || fail "it was not the watchdog that ended it"
  judges
  for container in $old; do ! grep -q "$container" <<<"$(ours)" || fail "$container is left of the one that was ended"; done
}

# Without an engine it stays up, reports it, and judges again when there is one.
survives_an_engine_restart() {
  local before out
  before=$(main_pid)
  systemctl stop docker.socket docker.service
  ! out=$(assay run /root/hello.sh 2>&1) || fail "judged without an engine"
  # longer than WatchdogSec=3 of the step before
  sleep 7
  [ "$(main_pid)" = "$before" ] || fail "an engine that is down ended the daemon"
  systemctl start docker.socket docker.service
  wait_for 60 'it judges again' assay run /root/hello.sh
  [ "$(main_pid)" = "$before" ] || fail "an engine's restart restarted the daemon"
  judges
  rm /etc/systemd/system/assayd.service.d/watchdog.conf
  systemctl daemon-reload
}

# Killed outright, reaper and all: nothing stays on the engine, and it is back.
survives_a_kill() {
  local before old
  before=$(main_pid)
  wait_for 30 'a sandbox is ready' warm
  old=$(ours)
  systemctl kill --kill-whom=all --signal=KILL assayd.service
  wait_for 60 'systemd starts another' has_new_pid "$before"
  judges
  for container in $old; do ! grep -q "$container" <<<"$(ours)" || fail "$container is left of the one that was killed"; done
}

# An engine over TLS: the drop-in as it is shipped, its keys root's alone.
engine_over_tls() {
  local docker=/etc/systemd/system/docker.service.d ours=/etc/systemd/system/assayd.service.d certs=/root/certs
  bash /root/docker-certs $certs engine.example >/dev/null
  echo '127.0.0.1 engine.example' >>/etc/hosts
  mkdir -p $docker /etc/assay/engine
  printf '[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// -H tcp://127.0.0.1:2376 --containerd=/run/containerd/containerd.sock --tlsverify %s\n' \
    "--tlscacert=$certs/server/ca.pem --tlscert=$certs/server/cert.pem --tlskey=$certs/server/key.pem" >$docker/tls.conf
  cp $certs/client/*.pem /etc/assay/engine/
  chmod 600 /etc/assay/engine/*.pem
  cp /usr/share/assay/systemd/engine-tls.conf $ours/
  systemctl daemon-reload
  systemctl restart docker assayd
  wait_for 60 'it judges over TLS' assay run /root/hello.sh
  assay --json status | grep -F tcp://engine.example:2376 >/dev/null
  systemd-analyze security --no-pager --threshold=15 assayd.service | tail -n 1
  rm -r $ours/engine-tls.conf $docker /etc/assay/engine
  systemctl daemon-reload
  systemctl restart docker assayd
  wait_for 60 'it judges again' assay run /root/hello.sh
}

# Callers as fast as they can, and submissions without a waiting caller; a package is put over the one that runs.
upgrades_under_load() {
  local load=/root/load
  rm -rf $load; mkdir $load
  printf 'sleep 0.2; echo done\n' >/root/slow.sh
  for number in 1 2 3; do
    ( trap - ERR
      while [ ! -e $load/over ]; do
        if out=$(assay run /root/hello.sh 2>&1) && [ "$out" = hello ]; then echo ok >>$load/answered
        else echo "$out" >>$load/refused; fi
      done ) &
  done
  ( trap - ERR
    while [ ! -e $load/over ]; do
      if id=$(assay submit /root/slow.sh 2>&1); then echo "$id" >>$load/submitted
      else echo "$id" >>$load/refused; fi
      sleep 0.3
      # not more than the machine keeps up with: the fourth from the end is done, or its daemon is
      last=$(tail -n 4 $load/submitted | head -n 1)
      assay wait "$last" >/dev/null 2>&1 || true
    done ) &
  count() { cat $load/answered 2>/dev/null | wc -l; }
  more() { [ "$(count)" -gt $(($1 + 5)) ]; }
  wait_for 60 'callers are answered' more 0
  local before
  before=$(main_pid)
  dpkg --install "./$1" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; exit 1; }
  has_new_pid "$before" || fail "the upgrade did not restart the service"
  wait_for 60 'callers are answered' more "$(count)"
  touch $load/over
  wait
  [ ! -e $load/refused ] || fail "refused: $(head -n 5 $load/refused)"
  [ "$(dpkg-query --showformat '${Version}' --show assay)" = "$2" ]
  local ids=0
  while read -r id; do
    [ "$(assay wait "$id" 2>&1)" = done ] || fail "submission $id: $(assay wait "$id" 2>&1)"
    ids=$((ids + 1))
  done <$load/submitted
  [ $ids -gt 2 ] || fail "only $ids were submitted"
  echo "upgraded under load: $(count) callers answered, none refused; $ids submitted, none lost"
}

# A configuration that the new program refuses: the upgrade says so and leaves the old daemon alone; a start with it ends
# once and says why; a health check answers at once.
refuses_to_break_a_daemon() { # refuses_to_break_a_daemon PACKAGE
  local before wrong=/etc/assay/assayd.toml.d/99-wrong.toml
  before=$(main_pid)
  mkdir -p "${wrong%/*}" /etc/systemd/system/assayd.service.d
  printf '[queue]\nmaxx = 3\n' >$wrong
  dpkg --install "./$1" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; exit 1; }
  grep -F 'did you mean queue.max?' /root/dpkg.log
  grep -F 'Nothing was restarted' /root/dpkg.log
  [ "$(main_pid)" = "$before" ] && is_active || fail 'the old daemon does not run any more'
  judges
  # what root can read, and the service's user cannot
  printf '[queue]\nmax = 3\n' >$wrong
  chmod 600 $wrong
  dpkg --install "./$1" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; exit 1; }
  grep -F '99-wrong.toml: Permission denied' /root/dpkg.log
  grep -F 'Nothing was restarted' /root/dpkg.log
  # what a drop-in of the unit sets, and the daemon that runs does not have
  rm $wrong
  printf '[Service]\nEnvironment=ASSAY_QUEUE_MAX=many\n' >/etc/systemd/system/assayd.service.d/99-wrong.conf
  dpkg --install "./$1" >/root/dpkg.log 2>&1 || { cat /root/dpkg.log; exit 1; }
  grep -F 'ASSAY_QUEUE_MAX: queue.max' /root/dpkg.log
  grep -F 'Nothing was restarted' /root/dpkg.log
  [ "$(main_pid)" = "$before" ] && is_active || fail 'the old daemon does not run any more'
  rm /etc/systemd/system/assayd.service.d/99-wrong.conf
  systemctl daemon-reload
  printf '[queue]\nmaxx = 3\n' >$wrong
  systemctl restart assayd >/dev/null 2>&1 || true
  has_failed() { [ "$(property ActiveState)" = failed ]; }
  wait_for 60 'the service has failed' has_failed
  [ "$(property ExecMainStatus)" = 78 ] || fail "the status is $(property ExecMainStatus)"
  journalctl --unit assayd.service --priority err --no-pager --output cat | grep -F 'did you mean queue.max?'
  local said
  said=$(timeout 20 assay health) && fail 'it is healthy without a daemon'
  echo "$said" | grep -E 'systemctl|journalctl'
  rm $wrong
  systemctl restart assayd
  wait_for 60 'it judges again' judges
}

# How often the sandbox of a submission with these options has served.
uses() { assay --json run "$@" /root/hello.sh | grep -oE '"uses": *[0-9]+' | grep -oE '[0-9]+$'; }

# A new installation reuses sandboxes of callers without a tenant; an upgrade from 0.1 does not, and says so.
keeps_single_use_without_a_tenant() {
  grep -F '50-reuse.toml keeps reuse' /root/dpkg.log
  assayd --check-config | grep -E '^reuse = "tenant"' >/dev/null
  for _ in 1 2 3; do [ "$(uses)" = 1 ] || fail "a sandbox served again without a tenant"; done
  served_again() { [ "$(uses --tenant t)" -gt 1 ]; }
  wait_for 60 'a sandbox serves a tenant again' served_again
  rm /etc/assay/assayd.toml.d/50-reuse.toml
  systemctl reload assayd
  served_again() { [ "$(uses)" -gt 1 ]; }
  wait_for 60 'a sandbox serves again' served_again
}

# An edited configuration is kept by an upgrade, and what a removal leaves is what a purge takes.
removes_and_purges() {
  local left
  dpkg --remove assay >/root/dpkg.log 2>&1
  [ -z "$(ours)" ] || fail "sandboxes are left: $(ours)"
  [ "$(property LoadState)" != loaded ] || fail "the unit is still there"
  ! pgrep -u assay >/dev/null || fail "processes are left: $(pgrep -a -u assay)"
  ! pgrep -u assay-egress >/dev/null || fail "processes are left: $(pgrep -a -u assay-egress)"
  [ ! -e /run/assay/assay.sock ] && [ -e /etc/assay/assayd.toml ] && [ -e /var/lib/assay/instance-id ]
  dpkg --purge assay >/root/dpkg.log 2>&1
  for file in assay.db receipt-key.pem callback-secret; do
    grep -F "removing /var/lib/assay/$file, the only copy" /root/dpkg.log
  done
  rm -rf /etc/systemd/system/assayd.service.d
  left=$(all_of_it | grep -vxFf /root/before || true)
  [ -z "$left" ] || fail "files are left: $left"
  [ -z "$(docker images --quiet --filter 'reference=assay/*')" ] || fail "images are left: $(docker images)"
  ! getent passwd assay || fail "the user is left"
  ! getent group assay || fail "the group is left"
  ! getent passwd assay-egress && ! getent group assay-egress || fail "the user of callbacks is left"
  [ -z "$(systemctl list-units --all --no-legend 'assay*')" ] || fail "units are left: $(systemctl list-units --all 'assay*')"
}

cd /root
step=$1; shift
"$step" "$@"
echo "ok: $step"
