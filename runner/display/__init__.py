"""What a person sees: the live dashboard and the report's tables."""
