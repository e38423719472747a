#!/bin/sh
# Measures the relay beside an installed HAProxy, and prints tables with ratios.
#
#   benches/relay.sh                  everything: some five minutes
#   SCENARIOS=bulk,play ROUNDS=5 SECONDS=3 benches/relay.sh
#   WORKERS=2 benches/relay.sh        relays with two workers, on two cores
#
# Linux, two cores or more, `taskset` (util-linux); `haproxy` to compare with.
set -eu
cd "$(dirname "$0")/.."
uname -srm
grep -m1 'model name' /proc/cpuinfo || true
date -u +%Y-%m-%d
exec cargo bench --quiet --locked --bench relay
