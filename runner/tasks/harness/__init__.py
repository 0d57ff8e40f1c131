"""Tasks of lm-evaluation-harness: found, loaded, asked and scored."""
