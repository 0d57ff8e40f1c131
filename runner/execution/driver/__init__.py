"""One run: Ray, the workers, the blocks, the manifest."""
