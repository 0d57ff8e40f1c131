"""Whether clocks may be set here, and through which program."""
