"""Wrong kernels: targets with one constant or operator changed, for which a theorem must have a counterexample.

They stand beside the gallery of real bugs, for theorems that no bug there contradicts.

>>> from heaplaw.impls.registry import factory
>>> factory("heaplaw.properties.proofs.wrong_kernels:OneListUp")().extents(8)
((0, 8, 4072),)
"""

from collections.abc import Callable

from heaplaw.impls.tlsf import Tlsf
from heaplaw.impls.tlsf_mapping import Geometry

# ---- tlsf ------------------------------------------------------------------------------------


class OneListUp(Tlsf):
    """A payload begins the list above its own: ``+ 1`` before it is rounded."""

    def _payload_rule(self, g: Geometry) -> Callable[[int], int]:
        return lambda size: g.request(g.request(size) + 1) if g.request(size) else 0
