"""Tasks of the study that lm-evaluation-harness lacks: its YAML over public data sets, with the functions it names."""
