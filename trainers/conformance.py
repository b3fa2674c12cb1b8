"""What any adversarial loss, penalty or critic must keep to be comparable with the others: run it on your own.

>>> from trainers.conformance import check_loss
>>> check_loss(my_loss)          # [] when it conforms, else one sentence per broken rule

The same as ``ganstudy losses --check my_module:my_loss``. Every registered loss and penalty passes; most rules are
defects that were found in well-known code (docs/gan-losses.md tells the story of each).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from trainers import conformance_losses, conformance_penalties
from trainers.losses import AdversarialLoss
from trainers.penalties import Discriminator, Penalty

__all__ = ["check_discriminator", "check_loss", "check_penalty"]

Entry = TypeVar("Entry")
Rule = Callable[[Entry], Iterator[str]]


def check_loss(loss: AdversarialLoss) -> list[str]:
    """The rules that ``loss`` breaks, as sentences that begin with the player; empty when it conforms."""
    return _first_broken(conformance_losses.FORM, loss) or _broken(conformance_losses.RULES, loss)


def check_penalty(penalty: Penalty) -> list[str]:
    """The rules that ``penalty`` breaks, as sentences; empty when it conforms.

    A term of L_D is tried on small smooth critics. Clipping and noise on D's inputs are done by the trainer, so of
    such a penalty only its declaration is checked.
    """
    form = conformance_penalties.FORM if penalty.term is None else conformance_penalties.TERM_FORM
    broken = _first_broken(form, penalty)
    return broken if broken or penalty.term is None else _broken(conformance_penalties.RULES, penalty)


def check_discriminator(discriminator: Discriminator, *, members: int, dimensions: int) -> list[str]:
    """Whether a critic D, samples [members, batch, dimensions] -> logits [members, batch], fits a per-sample penalty.

    Under batch normalisation, and whatever else lets one sample change another's logit, grad_x D(x) of the summed
    logits is no gradient of one sample's logit, and its norm no Lipschitz constant (Gulrajani et al. 2017, section 4).
    """
    return list(_asked(lambda d: conformance_penalties.mixing(d, members, dimensions), discriminator))


def _first_broken(rules: Iterable[Rule[Entry]], entry: Entry) -> list[str]:
    """What the first broken rule says: each of these must hold before the next can be asked."""
    return next((broken for rule in rules if (broken := list(_asked(rule, entry)))), [])


def _broken(rules: Iterable[Rule[Entry]], entry: Entry) -> list[str]:
    return [sentence for rule in rules for sentence in _asked(rule, entry)]


def _asked(rule: Rule[Entry], entry: Entry) -> Iterator[str]:
    """What a rule says; code that breaks while it is asked is one more broken rule, never a traceback."""
    try:
        yield from rule(entry)
    except Exception as error:  # somebody else's code may fail in any way
        what = (rule.__doc__ or "a rule").strip().splitlines()[0].rstrip(".")
        yield f"raised {type(error).__name__} when asked whether: {what} ({error})"
