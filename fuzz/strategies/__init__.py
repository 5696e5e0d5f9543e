"""A change of strategy judged: two allocators, or two revisions of one, under the same laws and the same traces.

``compared`` does the work, ``breaches`` holds it against thresholds; the command line and a gate call both.

>>> from heaplaw.fuzz.strategies import Budget, compared
>>> seen = compared("tlsf", "tlsf", budget=Budget(operations=200, search=0), recorded=())
>>> seen.refuted_by_new_only, {total.old == total.new for total in seen.totals().values()}
([], {True})
"""

from .comparing import Budget, Comparison, compared
from .thresholds import Breach, Threshold, breaches, parse_threshold, thresholds_of

__all__ = ["Breach", "Budget", "Comparison", "Threshold", "breaches", "compared", "parse_threshold", "thresholds_of"]
