"""Train with TRL's trainer on finished labels, with an event per step."""
