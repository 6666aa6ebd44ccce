# Sourced by deploy/quickstart and deploy/test: packages, free ports, a directory of its own, and a private RabbitMQ.
# shellcheck shell=bash

say() { printf '%s\n' "$*" >&2; }
step() { printf '\n\033[1m%s\033[0m\n' "$*" >&2; }
[ -t 2 ] && [ -z "${NO_COLOR:-}" ] || step() { printf '\n== %s\n' "$*" >&2; }
die() { say "$(basename "$0"): $*"; exit 1; }

root=() made_policy=""
# remove_policy: lets services be started again, also where the installation was interrupted.
remove_policy() {
  [ -z "$made_policy" ] || "${root[@]}" rm -f /usr/sbin/policy-rc.d
  made_policy=""
}

# install_packages NAME...: installs those that are missing; asks for sudo only where the user is not root.
install_packages() {
  local missing=() name
  for name in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$name" 2>/dev/null)" = "ii " ] || missing+=("$name")
  done
  [ ${#missing[@]} -eq 0 ] && return
  step "Installing ${missing[*]}"
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "as root, install first: apt-get install ${missing[*]}"
    say "This needs root: sudo may ask for your password."
    root=(sudo)
  fi
  local log="$work/apt.log"
  # The system's own broker is not wanted: ours is private. 101 means "not allowed" (invoke-rc.d(8)).
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    made_policy=yes
    printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee "$policy" >/dev/null
    "${root[@]}" chmod +x "$policy"
  fi
  local status=0
  { "${root[@]}" apt-get update -q &&
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "${missing[@]}"
  } >"$log" 2>&1 || status=$?
  remove_policy
  if [ "$status" -ne 0 ]; then
    tail -n 20 "$log" >&2
    die "apt-get failed; the lines above say why"
  fi
}

# need_swift: ends with what to do where there is no toolchain.
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
    RABBITMQ_LOG_BASE="$home/log" RABBITMQ_PID_FILE="$home/pid" RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS="+S 2:2"
    ERL_MAX_PORTS=65536
  )
  # A session of its own, so that one signal reaches all of the broker's processes, and Ctrl-C only ours.
  env "${broker_env[@]}" setsid "$rabbitmq/rabbitmq-server" >"$home/console" 2>&1 </dev/null &
  broker_pid=$!
  if ! wait_for broker 90 listens "$amqp_port" || ! wait_for management 60 listens "$management_port"; then
    tail -n 20 "$home/console" >&2
    die "RabbitMQ did not start; the lines above and $home/log say why"
  fi
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
