"""The traced program: tracing, walking, evaluating, matching. Knows jaxprs, no mathematics."""
