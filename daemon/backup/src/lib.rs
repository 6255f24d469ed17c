//! One file of everything, here or in an S3 bucket.

