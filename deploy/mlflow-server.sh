#!/usr/bin/env bash
# An MLflow server for studies: users with passwords, PostgreSQL, artifacts through the server, nothing else switched on.
#
# Secrets, from $MLFLOW_SERVER_ENV (default ~/.ganstudy/mlflow-server.env, 0600; deploy/secrets.sh makes it) or the environment;
# each may instead be named as a file by NAME_FILE, as containers mount secrets:
#   MLFLOW_BACKEND_STORE_URI        postgresql://user:password@host:5432/mlflow
#   MLFLOW_AUTH_ADMIN_PASSWORD      of the administrator, at the first start
#   MLFLOW_FLASK_SERVER_SECRET_KEY  signs the sign-in pages' forms
# Settings:
#   GANSTUDY_MLFLOW_HOST            the address to listen on; default this machine's first, which in a cloud is private
#   GANSTUDY_MLFLOW_PORT            default 5000
#   GANSTUDY_MLFLOW_NAMES           further names under which clients reach it, with commas: mlflow,mlflow.lab.example
#   MLFLOW_ARTIFACTS_DESTINATION    s3://BUCKET/mlflow, gs://..., or a folder; default /mnt/ganstudy/mlflow-artifacts
#   GANSTUDY_MLFLOW_STATE           a folder for the server's own files; default ~/.ganstudy/mlflow
#
# --detach starts it in the background, unless one runs, and returns. Without secrets --detach does nothing: the server
# may live elsewhere.
set -euo pipefail
umask 077

secrets="${MLFLOW_SERVER_ENV:-$HOME/.ganstudy/mlflow-server.env}"
state="${GANSTUDY_MLFLOW_STATE:-$HOME/.ganstudy/mlflow}"
port="${GANSTUDY_MLFLOW_PORT:-5000}"

fail() { echo "mlflow-server: $*" >&2; exit 1; }

detach() {
    [ -f "$secrets" ] || exit 0
    mkdir -p "$state"
    # the lock lives as long as the server: a second start finds it taken and leaves
    setsid flock --nonblock --conflict-exit-code 0 "$state/lock" "$0" </dev/null >>"$state/server.log" 2>&1 &
    exit 0
}

# A secret mounted as a file.
from_file() {
    local file="${1}_FILE"
    if [ -n "${!file:-}" ]; then
        export "$1=$(cat "${!file}")"
        unset "$file"
    fi
}

# Who may do what: a new user sees nothing; whoever makes an experiment manages it. A % starts a reference in this format.
write_permissions() {
    cat >"$state/auth.ini" <<END
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = ${MLFLOW_BACKEND_STORE_URI//%/%%}
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
auth_cache_ttl_seconds = 60
END
}

[ "${1:-}" != --detach ] || detach

if [ -f "$secrets" ]; then
    [ -z "$(find "$secrets" -perm /077)" ] || fail "$secrets must be readable by its owner only: chmod 600 $secrets"
    set -a; . "$secrets"; set +a
fi
for name in MLFLOW_BACKEND_STORE_URI MLFLOW_AUTH_ADMIN_PASSWORD MLFLOW_FLASK_SERVER_SECRET_KEY; do
    from_file "$name"
    [ -n "${!name:-}" ] || fail "$name is not set: put it into $secrets (deploy/secrets.sh makes that file)"
done
case "$MLFLOW_BACKEND_STORE_URI" in
    # the driver that the extra `server` installs; SQLAlchemy 2.1 would take another one unasked
    postgresql://*) MLFLOW_BACKEND_STORE_URI="postgresql+psycopg2://${MLFLOW_BACKEND_STORE_URI#*://}" ;;
    postgresql+*) ;;
    *) fail "MLFLOW_BACKEND_STORE_URI must be postgresql://..., since several studies write at once" ;;
esac

host="${GANSTUDY_MLFLOW_HOST:-$(hostname -I | cut -d' ' -f1)}"
export MLFLOW_AUTH_ADMIN_USERNAME="${MLFLOW_AUTH_ADMIN_USERNAME:-admin}"
export MLFLOW_ARTIFACTS_DESTINATION="${MLFLOW_ARTIFACTS_DESTINATION:-/mnt/ganstudy/mlflow-artifacts}"
export MLFLOW_AUTH_CONFIG_PATH="$state/auth.ini"
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false # eight processes and 1.9 GB that no study needs
export MLFLOW_DISABLE_TELEMETRY=true

mkdir -p "$state"
write_permissions
names="localhost,127.0.0.1,$host${GANSTUDY_MLFLOW_NAMES:+,$GANSTUDY_MLFLOW_NAMES}"
allowed="$(tr , '\n' <<<"$names" | sed "s/.*/&,&:$port/" | paste -sd,)"

cd "$state" # whatever the server writes beside itself stays here
# secrets travel in the environment: arguments can be read by every user of the machine
exec mlflow server --app-name basic-auth --host "$host" --port "$port" --workers "${GANSTUDY_MLFLOW_WORKERS:-2}" \
    --allowed-hosts "$allowed" --cors-allowed-origins "http://localhost:$port" --x-frame-options DENY
