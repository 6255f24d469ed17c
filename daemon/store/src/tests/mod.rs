//! Stories that need the whole store.

mod audit;
mod damage;
mod disk_full;
mod golden;
mod life;
mod migration;
mod peek;
mod people;
mod plugins;
mod power_loss;
mod samples;
mod secrets;
mod sim;
mod snapshot;
mod support;
