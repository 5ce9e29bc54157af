"""What operators do with a running cluster."""
