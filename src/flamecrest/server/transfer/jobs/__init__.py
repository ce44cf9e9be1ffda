"""Transfer jobs: the Transfers port over batch jobs, and the job scripts that all transfer methods share."""
