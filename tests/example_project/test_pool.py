from pool import Pool

from heaplaw.properties.pytest_plugin import laws_of

TestPool = laws_of(Pool)
