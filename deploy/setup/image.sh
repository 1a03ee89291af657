#!/bin/bash
# Build the container image with podman, from a Debian base that debootstrap makes: no registry and no Docker engine is needed.
#   image.sh [NAME]        FABRICMGR_BASE=image:tag takes that base instead
#   image.sh --archive     say where the image of this very source lies as an archive, built or not
# All of it lies in FABRICMGR_IMAGES, else below the user's cache, and is shared by all checkouts: the base and our dependencies are made
# once, of the rest only what was built last is kept.
set -euo pipefail
cd "$(dirname "$0")/../.."
images=${FABRICMGR_IMAGES:-${XDG_CACHE_HOME:-$HOME/.cache}/fabricmgr/image}
sources=(.dockerignore Dockerfile README.md cni deploy/setup/image.sh fabricmgr hatch_build.py migrations pyproject.toml redfish_schemas requirements.lock)
base=${FABRICMGR_BASE:-localhost/fabricmgr-base:bookworm}
ours=localhost/fabricmgr:dev
ARCHIVES=3

digest() { # of all that the image is made of
    { echo "$base" && find "${sources[@]}" -type f -not -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum; } |
        sha256sum | cut -c1-12
}
archive=$images/fabricmgr-$(digest).tar
if [ "${1:-}" = --archive ]; then
    echo "$archive"
    exit 0
fi

name=${1:-$ours}
[ "$(id -u)" = 0 ] || { echo "building the base needs root" >&2; exit 1; }
deploy/setup/apt.sh image
mkdir -p "$images"
exec 9>"$images/lock"
flock 9

# Layers that share files where the file system can do that; whole copies of each else.
driver=vfs
probe=$images/probe
mkdir -p "$probe"/{lower,upper,work,merged}
if mount -t overlay overlay -o "lowerdir=$probe/lower,upperdir=$probe/upper,workdir=$probe/work" "$probe/merged" 2>/dev/null; then
    umount "$probe/merged"
    driver=overlay
fi
rm -rf "$probe"

podman=(podman --root "$images/$driver" --runroot "$images/$driver.run" --storage-driver "$driver")
printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$images/policy.json"

if ! "${podman[@]}" image exists "$base"; then
    [ -z "${FABRICMGR_BASE:-}" ] || { echo "podman has no image $base in $images" >&2; exit 1; }
    echo "Making the base image"
    # shellcheck disable=SC2016  # apt-get itself fills the name in
    mirror=$(apt-get indextargets --format '$(REPO_URI)' | head -n 1)
    tree=$images/tree
    rm -rf "$tree"
    debootstrap --variant=minbase bookworm "$tree" "$mirror" >"$images/debootstrap.log" 2>&1 || { tail "$images/debootstrap.log" >&2; exit 1; }
    rm -rf "$tree"/var/cache/apt/archives/*.deb "$tree"/var/lib/apt/lists/*
    rm -f "$tree/etc/apt/sources.list"
    cp -r /etc/apt/sources.list /etc/apt/sources.list.d "$tree/etc/apt/" 2>/dev/null || true
    tar -C "$tree" -c . | "${podman[@]}" import -q --signature-policy "$images/policy.json" - "$base" >/dev/null
    rm -rf "$tree"
fi

# A site's own package index and certificates are lent to the build and stay out of the image.
lent=()
for file in /etc/pip.conf /etc/apt/apt.conf.d; do
    [ ! -e "$file" ] || lent+=(--volume "$file:$file:ro")
done
certificates=/etc/ssl/certs/ca-certificates.crt
[ ! -e $certificates ] || lent+=(--volume "$certificates:/run/site-certificates.crt:ro")
build() {
    "${podman[@]}" build -q --isolation chroot --network host --pull=never --signature-policy "$images/policy.json" \
        "${lent[@]}" --build-arg "BASE=$base" --build-arg PIP_CERT=/run/site-certificates.crt "$@" .
}
echo "Building $name"
# Names keep both from being swept away below.
build --target dependencies -t localhost/fabricmgr-dependencies:dev >/dev/null
build --target system -t localhost/fabricmgr-system:dev >/dev/null
build -t "$ours"
[ "$name" = "$ours" ] || "${podman[@]}" tag "$ours" "$name"
"${podman[@]}" image prune -f >/dev/null

if [ ! -e "$archive" ]; then
    rm -f "$images"/unfinished.tar
    "${podman[@]}" save -q -o "$images/unfinished.tar" "$ours"
    mv "$images/unfinished.tar" "$archive"
    find "$images" -maxdepth 1 -name 'fabricmgr-*.tar' -printf '%T@ %p\n' | sort -rn | tail -n +$((ARCHIVES + 1)) | cut -d' ' -f2- | xargs -r rm -f
fi
echo "As an archive: $archive"
echo "Try it: ${podman[*]} run --rm --network host $name --version"
