#!/bin/bash
# Build the container image with podman, from a Debian base that debootstrap makes: no registry and no Docker engine is needed.
#   image.sh [NAME]        FABRICMGR_BASE=image:tag takes that base instead
# The image lies in podman's own storage (as set by the variables below, so that nested machines work too).
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:-localhost/fabricmgr:dev}
build=$PWD/build/image
base=${FABRICMGR_BASE:-localhost/fabricmgr-base:bookworm}

[ "$(id -u)" = 0 ] || { echo "building the base needs root" >&2; exit 1; }
deploy/setup/apt.sh image
mkdir -p "$build"
podman=(podman --root "$build/storage" --runroot "$build/run" --storage-driver vfs)
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$build/policy.json"

if ! "${podman[@]}" image exists "$base"; then
    [ -z "${FABRICMGR_BASE:-}" ] || { echo "podman has no image $base" >&2; exit 1; }
    echo "Making the base image"
    # shellcheck disable=SC2016  # apt-get itself fills the name in
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
    rm -rf "$build/tree"
    debootstrap --variant=minbase bookworm "$build/tree" "$mirror" >"$build/debootstrap.log" 2>&1 || { tail "$build/debootstrap.log" >&2; exit 1; }
    rm -rf "$build/tree"/var/cache/apt/archives/*.deb "$build/tree"/var/lib/apt/lists/*
    rm -f "$build/tree/etc/apt/sources.list"
    cp -r /etc/apt/sources.list /etc/apt/sources.list.d "$build/tree/etc/apt/" 2>/dev/null || true
    tar -C "$build/tree" -c . | "${podman[@]}" import --signature-policy "$build/policy.json" - "$base" >/dev/null
    rm -rf "$build/tree"
fi

# A site's own package index and certificates are lent to the build and stay out of the image.
lent=()
for file in /etc/pip.conf /etc/apt/apt.conf.d; do
    [ ! -e "$file" ] || lent+=(--volume "$file:$file:ro")
done
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -e $certificates ] || lent+=(--volume "$certificates:/run/site-certificates.crt:ro")
echo "Building $name"
"${podman[@]}" build -q --isolation chroot --network host --pull=never --signature-policy "$build/policy.json" \
    "${lent[@]}" --build-arg "BASE=$base" --build-arg PIP_CERT=/run/site-certificates.crt -t "$name" .
echo "Try it: podman --root $build/storage --runroot $build/run --storage-driver vfs run --rm --network host $name --version"
