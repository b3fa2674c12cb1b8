#!/usr/bin/env bash
# Makes a cluster's secrets on the laptop, each readable by its owner only; what is there already stays as it is.
#
#   ~/.ray/auth_token                whoever holds it runs code on the cluster
#   ~/.ganstudy/mlflow.env           the driver's user at the MLflow server
#   ~/.ganstudy/mlflow-server.env    the server's own: administrator, database
#   ~/.ganstudy/database_password    of the database's user; put your own there before, if it is not to be made here
#
# Usage: deploy/secrets.sh MLFLOW_URL DATABASE_URI          the database's URI without its password
#   e.g. deploy/secrets.sh http://10.0.0.10:5000 postgresql://mlflow@10.0.0.20:5432/mlflow
set -euo pipefail
umask 077

usage="usage: deploy/secrets.sh http://HOST:5000 postgresql://USER@HOST:5432/DATABASE"
url="${1:?$usage}"
database="${2:?$usage}"
[[ "$database" =~ ^postgresql://[^:@/]+@[^/]+/[^/]+$ ]] || { echo "$usage" >&2; exit 2; }

# On the machine of the driver, MLflow listens on loopback; elsewhere deploy/mlflow-server.sh takes the machine's address.
listen=""
[[ ! "$url" =~ ^http://(localhost|127\.0\.0\.1)(:|/|$) ]] || listen="GANSTUDY_MLFLOW_HOST='127.0.0.1'"

random() { head -c 32 /dev/urandom | od -An -tx1 | tr -d ' \n'; }

# What is read from standard input becomes a new file; one that exists is told and kept.
make() {
    if [ -e "$1" ]; then
        echo "$1 is there already and stays" >&2
        cat >/dev/null
    else
        cat >"$1"
    fi
    chmod 600 "$1"
}

mkdir -p "$HOME/.ray" "$HOME/.ganstudy"
chmod 700 "$HOME/.ray" "$HOME/.ganstudy"

random | make "$HOME/.ray/auth_token"

make "$HOME/.ganstudy/mlflow.env" <<END
MLFLOW_TRACKING_URI='$url'
MLFLOW_TRACKING_USERNAME='ganstudy'
MLFLOW_TRACKING_PASSWORD='$(random)'
END

random | make "$HOME/.ganstudy/database_password"
password="$(cat "$HOME/.ganstudy/database_password")"

make "$HOME/.ganstudy/mlflow-server.env" <<END
MLFLOW_BACKEND_STORE_URI='${database%%@*}:$password@${database#*@}'
MLFLOW_AUTH_ADMIN_USERNAME='admin'
MLFLOW_AUTH_ADMIN_PASSWORD='$(random)'
MLFLOW_FLASK_SERVER_SECRET_KEY='$(random)'
$listen
END
