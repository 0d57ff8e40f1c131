"""What is known before anything is held: the plan, and whether the machine can do it."""
