"""Loaded models: servables, the loaders that read them, and the registry that leases them to requests."""
