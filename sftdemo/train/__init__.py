"""TRL's trainer on labels that are ready, an event a step."""
