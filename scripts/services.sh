#!/usr/bin/env bash
# A Redis and an S3 server for trying the worker on one machine, as deploy/quickstart.yaml expects them:
#
#   scripts/services.sh start|stop
#
# They listen on this machine alone and keep their data in .cache/services, which stop leaves. Other ports:
# SERVICES_REDIS_PORT, SERVICES_S3_PORT.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
home=${SERVICES_DIRECTORY:-$root/.cache/services}
redis_port=${SERVICES_REDIS_PORT:-6390}
s3_port=${SERVICES_S3_PORT:-7090}

running() { [ -f "$home/$1.pid" ] && kill -0 "$(cat "$home/$1.pid")" 2>/dev/null; }

# answers PORT: whether somebody listens there.
answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# launch NAME PORT COMMAND...
launch() {
    local name=$1 port=$2
    shift 2
    if running "$name"; then
        echo "$name runs already on 127.0.0.1:$port" >&2
        return
    fi
    if answers "$port"; then
        echo "services.sh: port $port is taken by another program" >&2
        exit 1
    fi
    setsid "$@" >"$home/$name.log" 2>&1 </dev/null &
    echo $! >"$home/$name.pid"
    for _ in $(seq 100); do
        if ! running "$name"; then
            break
        fi
        if answers "$port"; then
            echo "$name listens on 127.0.0.1:$port" >&2
            return
        fi
        sleep 0.1
    done
    echo "services.sh: $name does not start:" >&2
    tail -n 5 "$home/$name.log" >&2
    exit 1
}

case ${1:-} in
start)
    redis=$("$root/scripts/redis.sh")
    s3=$("$root/scripts/versitygw.sh")
    # A folder is a bucket.
    mkdir -p "$home/redis" "$home/s3/imgus" "$home/models"
    launch redis "$redis_port" "$redis" --bind 127.0.0.1 --port "$redis_port" --dir "$home/redis" --appendonly yes --maxmemory-policy noeviction
    launch s3 "$s3_port" "$s3" --port "127.0.0.1:$s3_port" --access imgus --secret imgus-secret --quiet posix "$home/s3"
    ;;
stop)
    for name in redis s3; do
        if running "$name"; then
            kill "$(cat "$home/$name.pid")"
        fi
        rm -f "$home/$name.pid"
    done
    ;;
*)
    echo "usage: scripts/services.sh start|stop" >&2
    exit 2
    ;;
esac
