"""The evidence: tuned objectives against tuned label smoothing on many data sets; the plan is PLAN.md."""
