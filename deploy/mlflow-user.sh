#!/usr/bin/env bash
# Makes the user under which studies write, on the machine of the MLflow server, once; repeating it changes nothing.
#
# Reads ~/.ganstudy/mlflow-server.env (the administrator) and ~/.ganstudy/mlflow.env (address, user, password).
# Passwords go by standard input: arguments can be read by every user of the machine.
set -euo pipefail

set -a
. "${MLFLOW_SERVER_ENV:-$HOME/.ganstudy/mlflow-server.env}"
. "${MLFLOW_CLIENT_ENV:-$HOME/.ganstudy/mlflow.env}"
set +a

status="$(
    curl --silent --show-error --output /dev/null --write-out '%{http_code}' --config - <<END
url = "$MLFLOW_TRACKING_URI/api/2.0/mlflow/users/create"
user = "${MLFLOW_AUTH_ADMIN_USERNAME:-admin}:$MLFLOW_AUTH_ADMIN_PASSWORD"
header = "Content-Type: application/json"
data = "{\"username\": \"$MLFLOW_TRACKING_USERNAME\", \"password\": \"$MLFLOW_TRACKING_PASSWORD\"}"
END
)"
case "$status" in
    200) echo "user $MLFLOW_TRACKING_USERNAME made" ;;
    400 | 409) echo "user $MLFLOW_TRACKING_USERNAME is there already" ;;
    *) echo "mlflow-user: $MLFLOW_TRACKING_URI answered $status" >&2; exit 1 ;;
esac
