"""How the files are called that counterexamples are kept in.

>>> telling_name("tlsf+T10,arena=4096", "waste-bound"), telling_name("./libmine.so", "disjoint")
('tlsf+T10-waste-bound', 'libmine.so-disjoint')
"""


def telling_name(target: str, law: str) -> str:
    """What is broken, and which law, without what no file's name should have; parameters are in the trace itself."""
    words = f"{target.partition(',')[0]}-{law}".removeprefix("./")
    return "".join(letter if letter.isalnum() or letter in "-.@+" else "_" for letter in words)
