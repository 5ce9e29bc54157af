"""The AWS, DSQL and Temporal that run on a laptop. Nothing outside this package knows that they exist."""
