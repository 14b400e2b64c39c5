"""Loaded models and their lives: servables, the loaders that make them, the registry that hands them out."""
