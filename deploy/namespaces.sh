#!/usr/bin/env bash
# A cluster of several machines on this one, without containers: coordinator, target and agents each in a network namespace
# of their own, on a network that leads nowhere else. Runs a plan on it and ends with the verdict; then all of it goes.
#
#   deploy/namespaces.sh [PLAN [OPTIONS OF groundswell run...]]      PLAN: [default: deploy/compose/plan.yaml]
#   AGENTS=4                  how many agents
#   GROUNDSWELL=FILE          the binary [default: groundswell of PATH, or that of this repository's target/release]
#
# It needs root and iproute2. Names in plans: target (the demo target, port 8088), coordinator, agent-1 and so on.
set -euo pipefail
repository="$(cd "$(dirname "$0")/.." && pwd)"
plan="${1:-$repository/deploy/compose/plan.yaml}"
shift || true
agents="${AGENTS:-4}"

fail() {
    echo "namespaces.sh: $*" >&2
    exit 2
}
binary="${GROUNDSWELL:-$(command -v groundswell || echo "$repository/target/release/groundswell")}"
[ -x "$binary" ] || fail "no binary at $binary; build one (cargo build --release), or say GROUNDSWELL=FILE"
[ "$(id -u)" = 0 ] || fail "network namespaces want root; use sudo"
command -v ip >/dev/null || fail "no ip command; install iproute2"
[[ "$agents" =~ ^[1-9][0-9]{0,2}$ ]] && [ "$agents" -le 200 ] || fail "AGENTS=$agents: say a number from 1 to 200"
[ -r "$plan" ] || fail "can't read $plan"

prefix="groundswell-$$"
folder="$(mktemp -d)"
machines=(coordinator target run)
for number in $(seq "$agents"); do machines+=("agent-$number"); done
declare -A processes=()

clean_up() {
    # A signal that comes meanwhile must not leave half of it.
    trap '' INT TERM
    for process in "${processes[@]}"; do kill "$process" 2>/dev/null || true; done
    wait
    for machine in switch "${machines[@]}"; do
        ip netns delete "$prefix-$machine" 2>/dev/null || true
        rm -rf "/etc/netns/$prefix-$machine"
    done
    rmdir /etc/netns 2>/dev/null || true
    rm -rf "$folder"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# Addresses of 198.18.0.0/15, which RFC 2544 keeps for measurements: nobody's network has them.
address() { echo "198.18.0.$1"; }

connect() {
    ip netns add "$prefix-switch"
    ip -n "$prefix-switch" link add bridge type bridge
    ip -n "$prefix-switch" link set bridge up
    local number=0 machine
    for machine in "${machines[@]}"; do
        number=$((number + 1))
        echo "$(address $number) $machine" >>"$folder/hosts"
        ip netns add "$prefix-$machine"
        # Both ends are made where they belong, so that this machine's own network is never touched.
        ip -n "$prefix-switch" link add "port$number" type veth peer name eth0 netns "$prefix-$machine"
        ip -n "$prefix-switch" link set "port$number" master bridge up
        ip -n "$prefix-$machine" address add "$(address $number)/24" dev eth0
        ip -n "$prefix-$machine" link set eth0 up
        ip -n "$prefix-$machine" link set lo up
    done
    echo "127.0.0.1 localhost" >>"$folder/hosts"
    for machine in "${machines[@]}"; do
        # ip shows a namespace's processes what lies there in place of /etc's (ip-netns(8)).
        mkdir -p "/etc/netns/$prefix-$machine"
        cp "$folder/hosts" "/etc/netns/$prefix-$machine/hosts"
    done
}

# Starts groundswell on a machine. Away from the terminal: an interrupt is for the run, which ends the others.
start() {
    local machine="$1"
    shift
    setsid ip netns exec "$prefix-$machine" "$binary" "$@" >"$folder/$machine.log" 2>&1 &
    processes[$machine]=$!
}

connect
"$binary" tokens create join --access "$folder/access" --out "$folder/join"
"$binary" tokens create run --access "$folder/access" --out "$folder/run"
start target demo-target --listen 0.0.0.0:8088
start coordinator serve --listen 0.0.0.0:7710 --name coordinator --access "$folder/access" --data-dir "$folder/data"
for number in $(seq "$agents"); do
    start "agent-$number" agent --coordinator https://coordinator:7710 --join-file "$folder/join" \
        --name "agent-$number" --workers 1 --allow target
done

code=0
ip netns exec "$prefix-run" "$binary" run "$plan" --coordinator https://coordinator:7710 --token-file "$folder/run" \
    --wait-agents "$agents" "$@" || code=$?
# Nobody ends before the run does, unless something is wrong.
for machine in "${!processes[@]}"; do
    kill -0 "${processes[$machine]}" 2>/dev/null || sed "s/^/$machine: /" "$folder/$machine.log" >&2
done
exit "$code"
