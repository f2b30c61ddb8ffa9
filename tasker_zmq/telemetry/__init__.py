"""What is worth telling: a catalogue of events, and how they are written."""
