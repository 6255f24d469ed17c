//! Access as a whole, over a store and secrets on a disk.

mod codes;
mod first_admin;
mod may;
mod oidc;
mod provider;
mod services;
mod sessions;
mod sign_in;
mod support;
