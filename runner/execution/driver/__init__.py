"""One run from first to last: Ray, the workers, the blocks, the manifest."""
