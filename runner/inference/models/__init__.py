"""Models that vLLM lacks, as a vLLM plugin (entry point `vllm.general_plugins`), known in every engine process."""


def register() -> None:
    """Tell vLLM of the models here, by name: nothing heavy is imported before one of them is opened."""
    from vllm import ModelRegistry

    ModelRegistry.register_model("GPTNeoForCausalLM", "runner.inference.models.gpt_neo:GPTNeoForCausalLM")
