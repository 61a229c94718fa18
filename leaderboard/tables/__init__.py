"""What is measured, as tables of scores: records looked up, the best of several, verdicts, rankings."""
