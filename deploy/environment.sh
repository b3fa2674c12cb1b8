# What every node of a cluster finds in its environment; the start commands source it before `ray start`.
# What is already set stays, so that a command, a container or a pod may say otherwise.

export PATH="$HOME/ganstudy/.venv/bin:$PATH"

# Where `ganstudy submit` puts studies: on the storage that all nodes share.
export GANSTUDY_HOME="${GANSTUDY_HOME:-/mnt/ganstudy/runs}"

# Recomputed after a preemption: at most this many seconds. A checkpoint of a study of small networks is a few megabytes.
export GANSTUDY_CHECKPOINT_EVERY_S="${GANSTUDY_CHECKPOINT_EVERY_S:-20}"

# Read by the head: a node whose process is gone is noticed after 3 checks (6 s instead of 15 s), one that hangs after 36 s.
export RAY_health_check_period_ms="${RAY_health_check_period_ms:-2000}"
export RAY_health_check_timeout_ms="${RAY_health_check_timeout_ms:-10000}"
export RAY_health_check_failure_threshold="${RAY_health_check_failure_threshold:-3}"

export RAY_USAGE_STATS_ENABLED=0

# MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME, MLFLOW_TRACKING_PASSWORD. On the head alone: the driver is the only writer.
# Never in a submission: whoever may look at a job's metadata would read them.
if [ -f "$HOME/.ganstudy/mlflow.env" ]; then
    if [ -n "$(find "$HOME/.ganstudy/mlflow.env" -perm /077)" ]; then
        echo "$HOME/.ganstudy/mlflow.env must be readable by its owner only: chmod 600" >&2
        return 1 2>/dev/null || exit 1
    fi
    set -a
    . "$HOME/.ganstudy/mlflow.env"
    set +a
fi
