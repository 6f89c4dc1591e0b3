"""Alert and triggers -> RetrainRequest: back to the data."""
