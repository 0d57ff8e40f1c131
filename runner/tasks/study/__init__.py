"""The tasks of the study. Those that lm-evaluation-harness lacks are YAML over public data sets, with functions."""
