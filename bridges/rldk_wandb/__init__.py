"""The bridge to Weights & Biases: a sink, an adapter, and a reader of offline files."""
