//! Stories that need the whole store.
