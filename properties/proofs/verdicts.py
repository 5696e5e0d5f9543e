"""The words of proofs: what came of a question, and the ways of asking.  Needs no solver.

>>> PROVED, METHODS
('proved', ('kernel', 'hints', 'traces', 'contract'))
"""

PROVED, REFUTED, UNCLEAR, NOT_RUN = "proved", "refuted", "inconclusive", "not run"
KERNEL, HINTS, TRACES, CONTRACT = "kernel", "hints", "traces", "contract"
METHODS = (KERNEL, HINTS, TRACES, CONTRACT)
