# Sourced by the commands of deploy: progress, packages, free ports, a directory of its own, and a private RabbitMQ.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }
step() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
[ -t 2 ] && [ -z "${NO_COLOR:-}" ] || step() { printf '\n== %s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

ticker=""
# stop_ticker: ends the line that counts the seconds.
stop_ticker() {
  [ -n "$ticker" ] || return 0
  kill "$ticker" 2>/dev/null
  wait "$ticker" 2>/dev/null
  ticker=""
  [ ! -t 2 ] || printf '\r\033[K' >&2
}

# tick WHAT: says what goes on and for how long: every second in one line of a terminal, elsewhere every 30 seconds.
tick() {
  local started=$SECONDS pause=30 nap=
  # A trap waits for the command in the foreground, so nothing sleeps there.
  trap 'kill "$nap" 2>/dev/null; exit 0' TERM
  if [ -t 2 ]; then pause=1; else say "$1 …"; fi
  while :; do
    if [ -t 2 ]; then
      printf '\r\033[K%s … %d s' "$1" $((SECONDS - started)) >&2
    elif [ "$SECONDS" -gt "$started" ]; then
      say "  … $((SECONDS - started)) s"
    fi
    sleep "$pause" &
    nap=$!
    wait "$nap"
  done
}

# phase WHAT COMMAND...: runs a command behind one calm line. What it says goes to a log, which is shown if it fails.
phase() {
  local what=$1 log="$work/phase.log" started=$SECONDS status=0
  shift
  tick "$what" &
  ticker=$!
  "$@" >"$log" 2>&1 </dev/null || status=$?
  stop_ticker
  if [ "$status" -eq 0 ]; then
    say "$what: done in $((SECONDS - started)) s"
  else
    tail -n 60 "$log" >&2
    say "$what: failed after $((SECONDS - started)) s with status $status; the lines above say why"
  fi
  return "$status"
}

root=() made_policy=""
# remove_policy: lets services be started again, also where the installation was interrupted.
remove_policy() {
  [ -z "$made_policy" ] || "${root[@]}" rm -f /usr/sbin/policy-rc.d
  made_policy=""
}

missing=()
# find_missing NAME...: which of these packages are not installed; to install them, asks for sudo if the user is not root.
find_missing() {
  local name
  missing=()
  for name in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null)" = "ii " ] || missing+=("$name")
  done
  [ ${#missing[@]} -ne 0 ] || return 0
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "as root, install first: apt-get install ${missing[*]}"
    say "To install ${missing[*]}, sudo may ask for your password."
    root=(sudo)
    sudo -v || die "without root, install first: apt-get install ${missing[*]}"
  fi
  # The system's own broker is not wanted: ours is private. 101 means "not allowed" (invoke-rc.d(8)).
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
  fi
}

# install_packages NAME...: installs those that are missing.
install_packages() {
  local status=0
  find_missing "$@"
  [ ${#missing[@]} -ne 0 ] || return 0
  phase "Installing ${missing[*]}" apt_install "${missing[@]}" || status=$?
  remove_policy
  [ "$status" -eq 0 ] || die "packages are missing"
}

installing=""
# begin_installing NAME...: installs those that are missing while other work goes on, until finish_installing.
begin_installing() {
  find_missing "$@"
  [ ${#missing[@]} -ne 0 ] || return 0
  say "Installing ${missing[*]} meanwhile"
  # The policy ends with the installation, while sudo still asks nobody.
  {
    trap '' INT TERM
    status=0
    apt_install "${missing[@]}" || status=$?
    remove_policy
    exit "$status"
  } >"$work/install.log" 2>&1 </dev/null &
  installing=$!
}

await_installing() { tail --pid="$installing" -f /dev/null; }

# finish_installing: waits for what begin_installing has begun.
finish_installing() {
  [ -n "$installing" ] || return 0
  local status=0
  ! kill -0 "$installing" 2>/dev/null || phase "Waiting for the packages" await_installing
  wait "$installing" || status=$?
  installing="" made_policy=""
  [ "$status" -eq 0 ] && return
  tail -n 30 "$work/install.log" >&2
  die "packages are missing: ${missing[*]}"
}

# stop_installing: for those who end early: an installation that is broken off would keep the next from its lock.
stop_installing() {
  [ -n "$installing" ] || return 0
  say "Waiting for the installation of packages to end"
  wait "$installing" 2>/dev/null
  installing="" made_policy=""
}

apt_install() {
  "${root[@]}" apt-get update -q &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

# need_swift: ends with what to do if there is no toolchain.
need_swift() {
  command -v swift >/dev/null ||
    die "no Swift toolchain found; install Swift 6.2 or later (https://www.swift.org/install/linux/) and put it on PATH"
}

# free_port: prints a loopback port that nobody listens on, below the range of outgoing connections.
free_port() {
  local port
  while :; do
    port=$((20000 + RANDOM % 12000))
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo "$port"; return; }
  done
}

# wait_for WHAT SECONDS COMMAND...: until the command succeeds.
wait_for() {
  local what=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ $SECONDS -lt $deadline ] || return 1
    sleep 0.1
  done
}

listens() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# Where RabbitMQ's commands are; deploy/test --rabbitmq names another folder.
rabbitmq=/usr/lib/rabbitmq/bin

# start_broker: a RabbitMQ of our own under $work/rabbitmq. Sets amqp_port, management_port, broker_env, broker_pid.
start_broker() {
  launch_broker
  phase "Starting a private RabbitMQ" await_broker || die "RabbitMQ did not start; see $work/rabbitmq/log"
}

await_broker() {
  wait_for broker 90 listens "$amqp_port" && wait_for management 60 listens "$management_port" && return
  tail -n 20 "$work/rabbitmq/console"
  return 1
}

launch_broker() {
  local home="$work/rabbitmq"
  mkdir -p "$home"
  amqp_port=$(free_port)
  management_port=$(free_port)
  local epmd_port distribution_port
  epmd_port=$(free_port)
  distribution_port=$(free_port)
  cat >"$home/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:$amqp_port
management.tcp.ip = 127.0.0.1
management.tcp.port = $management_port
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.relative = 0.5
log.file.level = info
CONF
  echo '[rabbitmq_management].' >"$home/enabled_plugins"
  broker_env=(
    HOME="$home" ERL_EPMD_PORT="$epmd_port" ERL_EPMD_ADDRESS=127.0.0.1
    RABBITMQ_NODENAME="seedream-$$@localhost" RABBITMQ_DIST_PORT="$distribution_port"
    RABBITMQ_CONF_ENV_FILE=/dev/null RABBITMQ_CONFIG_FILE="$home/rabbitmq.conf"
    RABBITMQ_ADVANCED_CONFIG_FILE="$home/advanced.config"
    RABBITMQ_ENABLED_PLUGINS_FILE="$home/enabled_plugins" RABBITMQ_MNESIA_BASE="$home/data"
    RABBITMQ_LOG_BASE="$home/log" RABBITMQ_PID_FILE="$home/pid" RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
    ERL_MAX_PORTS=65536
  )
  # A session of its own, so that one signal reaches all of the broker's processes, and Ctrl-C only ours.
  env "${broker_env[@]}" setsid "$rabbitmq/rabbitmq-server" >"$home/console" 2>&1 </dev/null &
  broker_pid=$!
}

# no_processes GROUP: whether a process group is empty.
no_processes() { ! kill -0 -- "-$1" 2>/dev/null; }

# stop_broker: at once, since its data goes too.
stop_broker() {
  [ -n "${broker_pid:-}" ] || return 0
  kill -KILL -- "-$broker_pid" 2>/dev/null
  wait "$broker_pid" 2>/dev/null
  # Not before the last of its processes has gone: epmd does not end while a node is registered.
  wait_for "the broker's end" 10 no_processes "$broker_pid"
  wait_for "epmd's end" 10 env "${broker_env[@]}" epmd -kill
  broker_pid=
}
