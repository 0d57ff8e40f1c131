"""The worker of one GPU: it holds the GPU, keeps an engine loaded and measures trials."""
