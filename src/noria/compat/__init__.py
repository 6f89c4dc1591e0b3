"""Other tools' protocols, spoken as their clients expect. Nothing imports these but the server, by name."""
