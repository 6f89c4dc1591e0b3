"""Loop files to start from, one folder a use case; ``noria new`` writes them out."""
