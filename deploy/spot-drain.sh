#!/usr/bin/env bash
# Tells Ray that AWS will take this machine in two minutes: nothing new starts on it, and what it loses counts as
# preempted, not as failed. Does nothing where there is no metadata service. --detach runs it in the background.
#
# GCP: metadata.google.internal/computeMetadata/v1/instance/preempted. Azure: 169.254.169.254/metadata/scheduledevents.
set -euo pipefail

metadata="${METADATA_URL:-http://169.254.169.254/latest}"
lock="${TMPDIR:-/tmp}/ganstudy-spot-drain-$(id -u).lock"

token() { curl --fail --silent --max-time 2 -X PUT -H "X-aws-ec2-metadata-token-ttl-seconds: 300" "$metadata/api/token"; }

# Succeeds once AWS has said when it takes the machine (404 until then).
taken() {
    curl --fail --silent --max-time 2 --output /dev/null -H "X-aws-ec2-metadata-token: $(token)" \
        "$metadata/meta-data/spot/instance-action"
}

if [ "${1:-}" = --detach ]; then
    setsid flock --nonblock --conflict-exit-code 0 "$lock" "$0" </dev/null >/dev/null 2>&1 &
    exit 0
fi

token >/dev/null || exit 0
. "$(dirname "$0")/environment.sh"
until taken; do sleep "${GANSTUDY_SPOT_POLL_S:-5}"; done
RAY_AUTH_MODE=token ray drain-node --reason DRAIN_NODE_REASON_PREEMPTION --reason-message "spot interruption" \
    --deadline-remaining-seconds 100 ${RAY_DRAIN_ARGUMENTS:-}
