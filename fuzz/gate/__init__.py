"""``heaplaw gate``: what a project has promised itself, asked in one go.

    configuration   heaplaw.toml or [tool.heaplaw], read and checked
    running         one run: its targets, its clock, what has come of it so far
    seeding         the seed, taken from the commit
    changed         which targets a change touches
    canaries        can the engines go red at all?  Are the laws still there?
    again           traces run once more: committed counterexamples, and known divergences, which must still fail
    inputs          every input of the corpus
    certificates    exhaustive searches made again
    exploration     the engines, on every target
    strategy        the new strategy against the old one, held to thresholds
    outcome         what it amounts to: exit code, words, what to do next
    showing         one line a step
"""
