"""Training on many processes: less traffic, models and checkpoints in parts, what to expect."""
