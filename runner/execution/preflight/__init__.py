"""Before a run: the plan, and the checks that it can be carried out."""
