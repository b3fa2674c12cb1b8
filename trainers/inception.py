"""The one doorway to torch-fidelity: Inception-v3's features, from weights on this machine; no download."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

Extractor = Callable[[Tensor], Tensor]
"""Bytes [n, 3, h, w] (uint8) to features [n, F]."""

VARIABLE = "GANSTUDY_INCEPTION"
URL = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth"
NAMES = ("weights-inception-2015-12-05-6726825d.pth", "pt_inception-2015-12-05-6726825d.pth")
"""What the same file is called by torch-fidelity and by pytorch-fid."""
SIZE, SHA256 = 95_628_359, "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"

_FEATURES = "2048"


class ExtractorError(ValueError):
    """Inception's features cannot be had here; the message says what to install, or which file to put where."""


def require_inception() -> None:
    """Raises ExtractorError unless torch-fidelity can be imported and the weights are there, whole."""
    _network_class()
    weights_file()


@lru_cache(maxsize=1)
def weights_file() -> Path:
    """The weights: the file that $GANSTUDY_INCEPTION names, else one under torch's own folder of downloads.

    Raises ExtractorError where there is none, or where it is not the published one: it is a pickle.
    """
    named = os.environ.get(VARIABLE)
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    places = [Path(named)] if named else [folder / name for name in NAMES]
    found = next((place for place in places if place.is_file()), None)
    remedy = f"fetch {URL} where there is a network, and put it into {folder}, or name the file in {VARIABLE}"
    if found is None:
        missing = (
            f"{named} (named by {VARIABLE}) is missing" if named else "Inception's weights are not on this machine"
        )
        raise ExtractorError(f"{missing}: {remedy}")
    content = found.read_bytes()
    got = hashlib.sha256(content).hexdigest()
    if got != SHA256:
        raise ExtractorError(
            f"{found} must have SHA-256 {SHA256[:16]}... and {SIZE:,} bytes, got {got[:16]}... and {len(content):,}: "
            f"{remedy}"
        )
    return found


@lru_cache(maxsize=1)
def inception() -> Extractor:
    """The 2,048 features of Inception-v3's last pooling, on whatever device the images are; ExtractorError if not."""
    network = _network_class()("ganstudy", [_FEATURES], feature_extractor_weights_path=str(weights_file()))

    @torch.no_grad()
    def features(images: Tensor) -> Tensor:
        network.to(images.device)
        found: Tensor = network(images)[0]
        return found

    return features


def _network_class() -> Any:
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # noqa: PLC0415
    except Exception as error:  # also a torchvision that was built for another torch: a RuntimeError
        raise ExtractorError(
            "torch-fidelity cannot be imported: pip install 'ganstudy[fid]', with torch and torchvision from one place "
            f"({type(error).__name__}: {error})"
        ) from error
    return FeatureExtractorInceptionV3
