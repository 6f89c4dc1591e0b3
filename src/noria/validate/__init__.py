"""Run and gates -> ValidationReport: every gate decided on facts, with reasons."""
