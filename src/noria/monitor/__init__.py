"""Windows of predictions and labels -> Alert."""
