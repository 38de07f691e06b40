"""Drills: the promises of docs/promises.md, put to the test on a real service; ``make drills`` runs them."""
