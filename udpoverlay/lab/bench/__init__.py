"""Paths side by side: testbed, runner, statistics, report."""
