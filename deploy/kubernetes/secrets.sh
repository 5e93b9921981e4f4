#!/bin/sh
# Prints the Secrets that the manifests and the chart name: a certificate authority and a token for each role.
#
#   deploy/kubernetes/secrets.sh [NAMESPACE] [DIR] | kubectl apply -f -
#
# NAMESPACE is groundswell unless it is said. DIR keeps what was made [default: a temporary folder, deleted at the end]; with
# what is there already, the same Secrets come out again. Needs groundswell, openssl and kubectl.
set -eu
umask 077
namespace=${1:-groundswell}
if [ -n "${2:-}" ]; then
    access=$2
    mkdir -p "$access"
else
    access=$(mktemp -d)
    trap 'rm -rf "$access"' EXIT
fi
[ -e "$access/ca.key" ] || groundswell certs init --access "$access" >&2
for role in join run view admin; do
    [ -e "$access/$role" ] || openssl rand -hex 32 >"$access/$role"
done
secret() {
    name=$1
    shift
    files=
    for file in "$@"; do
        files="$files --from-file=$file=$access/$file"
    done
    # Without quotes: one argument for each file; a DIR with blanks is refused by kubectl.
    # shellcheck disable=SC2086
    kubectl create secret generic "$name" --namespace "$namespace" --dry-run=client --output yaml $files
    echo ---
}
# Whoever has the CA's key can be anybody, so only the coordinator has it.
secret groundswell-coordinator ca.pem ca.key join run view admin
secret groundswell-agent ca.pem join
secret groundswell-run ca.pem run
