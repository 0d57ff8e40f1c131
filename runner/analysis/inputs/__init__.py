"""What a prompt costs: features of prompts compared with their measured energy, latency and score."""
