"""What a prompt costs: features of prompts against their measured energy, latency and score."""
