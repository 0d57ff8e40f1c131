"""A sweep at work: one trial measured, one actor a GPU, one aggregator, one driver."""
