#!/bin/sh
# Installs the programs that tests drive, given as program:package[,package], where that may be done: as root, with apt-get.
# Where it may not, it says so and succeeds: the tests that need them are skipped by name (in .ci/run they fail).
set -u

missing=""
for pair in "$@"; do
    command -v "${pair%%:*}" >/dev/null || missing="$missing $(echo "${pair#*:}" | tr , " ")"
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "Tests that need these are skipped:$missing. On Debian, as root: apt-get install$missing" >&2
    exit 0
fi

echo "Installing from Debian:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086 # one word for each package
apt-get update -qq -o Acquire::Retries=3 >/dev/null &&
    apt-get install -qq --yes --no-install-recommends -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 $missing >/dev/null ||
    echo "apt-get could not install them; tests that need these are skipped:$missing" >&2
