"""Many runs together: logs as curves, seeds as mean and spread, cells as a table."""
