#!/bin/sh
# Builds groundswell as one static file, and lays out what the image of deploy/Dockerfile is made of.
#
#   deploy/static.sh [DIR]      DIR: where to [default: deploy/dist]
#   TARGET=...                  the Rust target [default: this machine's with glibc]; x86_64-unknown-linux-musl works too
#   BINARY=FILE                 lay out this binary instead of building one
#
# DIR/root is the root folder of the image, DIR/own what its user may write to.
set -eu
repository=$(cd "$(dirname "$0")/.." && pwd)
dist=${1:-$repository/deploy/dist}
target=${TARGET:-$(uname -m)-unknown-linux-gnu}

if [ -z "${BINARY:-}" ]; then
    # The flag would also reach build scripts and macros, which can't be static; with --target it does not.
    (cd "$repository" && RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static" \
        cargo build --release --locked --package groundswell --target "$target")
    BINARY=${CARGO_TARGET_DIR:-$repository/target}/$target/release/groundswell
fi
if ldd "$BINARY" 2>/dev/null | grep -q '=>'; then
    echo "static.sh: $BINARY needs libraries; build it with -C target-feature=+crt-static" >&2
    exit 1
fi

rm -rf "$dist"
mkdir -p "$dist/root/etc/ssl/certs" "$dist/root/tmp" "$dist/own/data" "$dist/own/tokens" "$dist/own/identity"
chmod 1777 "$dist/root/tmp"
chmod 0700 "$dist/own/data" "$dist/own/tokens" "$dist/own/identity"
cp "$BINARY" "$dist/root/groundswell"
# For https targets. Debian, Fedora and Alpine keep them in different places.
for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/cert.pem; do
    if [ -e "$bundle" ]; then
        cp -L "$bundle" "$dist/root/etc/ssl/certs/ca-certificates.crt"
        break
    fi
done
[ -e "$dist/root/etc/ssl/certs/ca-certificates.crt" ] ||
    echo "static.sh: no certificate authorities here; https targets will need tls.ca in the plan" >&2
"$dist/root/groundswell" --version
