//! Stories that need the whole store.

mod damage;
mod disk_full;
mod life;
mod power_loss;
mod samples;
mod sim;
mod support;
