"""One GPU's worker: it holds the GPU, keeps an engine loaded and measures trials."""
