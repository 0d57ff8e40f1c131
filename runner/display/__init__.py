"""What a person sees: the live dashboard, the plan, the report, the findings of the doctor and the list of tasks."""
