"""Mutation testing with a curated list: realistic bugs, each of which a test must catch.

    catalogue/  one file a room: the bugs, each with the tests that must fail (`mutant.py`)
    tree.py     the scratch copy in which a bug is planted; never the work tree
    build.py    the extensions in it: built once, then one unit a mutant
    trial.py    runs a selection of tests and says what became of the mutant
    report.py   progress, summary, JSON
    outcomes.py the pytest plugin through which `trial.py` learns what each test did

`python -m tests.mutants --help`; CONTRIBUTING.md says how to add a mutant, docs/adr/ why no
generator is used.
"""
