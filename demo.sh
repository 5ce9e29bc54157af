#!/usr/bin/env bash
# The main job from end to end on this machine: build everything, prove a no-op, set up the database, remove everything.
set -euo pipefail
tecs=$1
for name in $(compgen -e | grep -E '^(AWS|TECS)_' || true); do unset "$name"; done
folder=$(mktemp -d)
cd "$folder"
trap '"$tecs" sandbox stop >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT
run() { printf '\n$ tecs %s\n' "$*"; "$tecs" "$@"; }
began=$SECONDS
printf '[images]  # those of the sandbox are names\ntemporal = "temporal:demo"\ngrafana = "grafana:demo"\n' > tecs.toml
run sandbox start --hours 0.5
run --sandbox provision --yes
run --sandbox plan --check
run --sandbox schema setup --yes
run --sandbox schema setup
run --sandbox schema status
run --sandbox scale up --wps 50 --yes
run --sandbox status
run --sandbox membership
run --sandbox logs history --since 1h
run --sandbox scale down --yes
run --sandbox output dsql_endpoint
run --sandbox teardown --yes
run --sandbox status
run --sandbox teardown --yes --with-data --confirm temporal-dev
run sandbox stop
printf '\nThe whole story took %s s.\n' "$((SECONDS - began))"
