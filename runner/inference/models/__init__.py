"""Models that vLLM lacks, as a vLLM plugin: the entry point `vllm.general_plugins` loads it in every engine process."""


def register() -> None:
    """Register the models with vLLM by name. A model's module is imported when the model is opened."""
    from vllm import ModelRegistry

    ModelRegistry.register_model("GPTNeoForCausalLM", "runner.inference.models.gpt_neo:GPTNeoForCausalLM")
