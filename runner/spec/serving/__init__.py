"""What is asked of a service: the promises for each request, and recorded traffic."""
