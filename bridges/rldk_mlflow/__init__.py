"""The bridge to MLflow: a sink and an adapter."""
