"""ModelVersion and rollout -> Deployment: canary steps decided on errors and loss."""
