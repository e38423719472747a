#!/bin/sh
# Measures the relay beside an installed HAProxy, and prints tables with ratios.
#
#   benches/relay.sh                  everything: some ten minutes
#   SCENARIOS=bulk,play ROUNDS=5 SECONDS=3 benches/relay.sh
#   CALLS=1 SCENARIOS=framed-100 benches/relay.sh    system calls, counted with perf
#   BESIDE=/path/to/infrarust SCENARIOS=framed-1000 benches/relay.sh    beside another build
#   RELAYS='client_only, plain;passthrough'    only relays with one of these in their names
#   WORKERS=2 benches/relay.sh        relays with two workers, on two cores
#
# Linux, two cores or more, `taskset` (util-linux); `haproxy` to compare with.
set -eu
cd "$(dirname "$0")/.."
uname -srm
grep -m1 'model name' /proc/cpuinfo || true
date -u +%Y-%m-%d
exec cargo bench --quiet --locked --bench relay
