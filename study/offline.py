"""Training without MLflow: a writer that writes nowhere, and a first look whether a server answers at all."""

from __future__ import annotations

import http.client
import os
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from study.errors import WorkFailed

if TYPE_CHECKING:
    from study.plan import Plan

ANSWER_S = 5.0
HINT = "`--offline` trains without it, `ganstudy sync` sends later"


class Nowhere:
    """Stands in for study.tracking.Tracker in an attempt that tells MLflow nothing: the checkpoints hold it all."""

    tracking_uri = ""
    delivered = 0

    def open(self, *, launch: str) -> None:
        """Nothing."""

    def grow(self, plan: Plan) -> None:
        """Nothing."""

    def start(self, cohort: str) -> None:
        """Nothing."""

    def send(self, cohort: str) -> None:
        """Nothing."""

    def finish(self, cohort: str, *, failed: bool) -> None:
        """Nothing."""

    def sync(self) -> None:
        """Nothing."""

    def close(self, status: str) -> None:
        """Nothing."""


def require_answer(tracking_uri: str, *, shown: str) -> None:
    """Raises WorkFailed, within twice ANSWER_S, where an http(s) server does not answer or is out of order.

    MLflow's client would find out too, after its retries and beside a Ray that was started for nothing. Any answer
    below 500 will do: which paths are open to whom is the client's affair. Behind a proxy the client alone finds out.
    """
    parts = urlsplit(tracking_uri)
    if parts.scheme not in ("http", "https") or _behind_proxy():
        return
    connection = http.client.HTTPConnection if parts.scheme == "http" else http.client.HTTPSConnection
    try:
        link = connection(parts.hostname or "", parts.port, timeout=ANSWER_S)
        link.request("GET", f"{parts.path.rstrip('/')}/health")
        status = link.getresponse().status
        link.close()
    except ssl.SSLError:
        return  # the client may have been told to trust it
    except (OSError, ValueError, http.client.HTTPException) as problem:
        slow = isinstance(problem, TimeoutError)
        reason = f"no answer within {ANSWER_S:g} s" if slow else str(problem) or type(problem).__name__
        raise WorkFailed(f"MLflow at {shown} cannot be used: {reason}; {HINT}") from problem
    if status >= http.client.INTERNAL_SERVER_ERROR:
        raise WorkFailed(f"MLflow at {shown} cannot be used: it answers with {status}; {HINT}")


def _behind_proxy() -> bool:
    return any(os.environ.get(name) for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"))
