//! What plugin authors do: new, record, test, lint, pack.
