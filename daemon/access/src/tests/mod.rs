//! Access as a whole, over a store and secrets on a disk.
