"""An engine in virtual time: vLLM's scheduling over the model of a GPU."""
