"""What every cluster file must hold to, as one function: text in, sentences out."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = r"(?i)(?:password|token|secret|key)[A-Z_]*[\"']?\s*[:=]\s*"
SECRET = re.compile(NAME + r"(?:[\"'](?P<quoted>[^\s\"'$<{]{8,})|(?P<plain>(?=\S*\d)[^\s\"'$<{\[]{8,}))")
LONG_HEX = re.compile(r"(?<!--hash=sha256:)\b[0-9a-f]{32,}\b")  # a lock's digests are public
URI_PASSWORD = re.compile(r"://[^/\s:@]+:(?P<value>[^@\s$]+)@")
EXAMPLES = {"password"}


def start_commands(config: Mapping[str, Any], role: str) -> list[str]:
    """The commands of a role (head, worker) that start Ray."""
    return [command for command in config[f"{role}_start_ray_commands"] if "ray start" in command]


def defects(config: Mapping[str, Any]) -> list[str]:
    """What is wrong with a cluster file of ``ray up``, a sentence each."""
    return [*_open_doors(config), *_token(config), *_versions(config)]


def leaked(text: str) -> list[str]:
    """What looks like a secret written out: long hexadecimal words, and what a secret's name is set to."""
    found = [match["quoted"] or match["plain"] for match in SECRET.finditer(text)]
    found += [match["value"] for match in URI_PASSWORD.finditer(text)]
    return [value for value in found if value not in EXAMPLES and not _is_reference(value)] + LONG_HEX.findall(text)


def _is_reference(value: str) -> bool:
    """A path, a file, a name in capitals: where the secret is, not what it is."""
    return value.startswith(("/", "~", ".", "*")) or "/" in value or value.replace("_", "").isupper()


def _open_doors(config: Mapping[str, Any]) -> Iterator[str]:
    for role in ("head", "worker"):
        commands = start_commands(config, role)
        if len(commands) != 1:
            yield f"{role}: {len(commands)} commands start Ray, not one"
        for command in commands:
            words = shlex.split(command)
            before = words[: words.index("start")]
            if before[-2:] != ["RAY_AUTH_MODE=token", "ray"]:
                yield f"{role}: `ray start` is not under RAY_AUTH_MODE=token"
            hosts = [word.partition("=")[2] for word in words if word.startswith("--dashboard-host")]
            if role == "head" and hosts != ["127.0.0.1"]:
                yield f"{role}: the dashboard listens on {', '.join(hosts) or 'what is not said'}, not on 127.0.0.1"


def _token(config: Mapping[str, Any]) -> Iterator[str]:
    mounts = config.get("file_mounts", {})
    if not str(mounts.get("~/.ray/auth_token", "")).endswith("auth_token"):
        yield "the token is not mounted where Ray looks for it"
    if not any(re.search(r"chmod 600 \S*auth_token", command) for command in config["setup_commands"]):
        yield "the token is not made readable by its owner only"
    if any("mlflow" in f"{remote}{local}" for remote, local in mounts.items()):
        yield "MLflow's secrets go to every node"


def _versions(config: Mapping[str, Any]) -> Iterator[str]:
    commands = [*config["setup_commands"], *config.get("head_setup_commands", [])]
    for command in commands:
        for requirement in re.findall(r"ganstudy\[[^\"]*", command):
            if "-c ~/ganstudy/constraints.txt" not in command:
                yield "our package is installed without the pinned versions"
            if "cluster" not in requirement:
                yield "our package is installed without the extra that serves jobs"
    if not any("ganstudy[" in command for command in commands):
        yield "our package is not installed"
    local = config.get("file_mounts", {}).get("~/ganstudy/constraints.txt")
    if local is None or Path(local).name != "constraints.txt":
        yield "the pinned versions are not mounted"
    if not any(re.search(r"vers=4\\?\.[\[1]", command) for command in commands):
        yield "the studies' storage is not mounted with NFS 4.1, whose locks hold"
    if any(re.search(r"\b(nolock|soft|local_lock=(?:all|flock))\b", command) for command in commands):
        yield "the studies' storage is mounted so that locks or writes get lost"
