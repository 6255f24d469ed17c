//! Judging what was seen. No clock, no disk, no network: how a poll went and
//! what it measured go in; alerts, notifications and requests for polls come
//! out.
//!
//! # The life of a fault
//!
//! An alert is *pending* from the first sign, *firing* once its rule's rounds
//! or time have gone by without a break, and *resolved* when it is over. People
//! are told once that it fires and once that it is over, the latter only if
//! they were told the former. Rounds, times and whether people were told are in
//! the [`Alert`](model::Alert) itself, so a restart loses none of it.
//!
//! # Whose fault it is
//!
//! A device is reached through its parents. Where *all* of them are down, its
//! silence says nothing: it is *unreachable behind* the down devices nearest to
//! us, listed with them and not told by itself. So that this holds in whatever
//! order devices are polled, a silent device is told of only when
//!
//! 1. a parent answered a poll that began after the silent round with which the
//!    rule was met: a way to it is open. A parent that was not asked since then
//!    is asked now;
//! 2. a parent that is silent, but not yet for long enough to say so, is waited
//!    for: either it fires, or it answers, and then a fresh silent round of the
//!    device has to follow;
//! 3. a parent that cannot be asked is waited for over one of its intervals and
//!    a few seconds, no longer.
//!
//! Parents are asked when a device falls silent, too, so that what is really
//! broken is seen to be so before the devices behind it are judged.
//!
//! When a parent is back, those behind it are asked at once and get the rounds
//! of their own rule before anyone is told.
//!
//! Only what can prove something takes part: a parent that is disabled, deleted
//! or judged by no availability rule is ignored. A device's *main* check is
//! ICMP if an availability rule judges it by ICMP, else SNMP. Its other faults
//! (a silent agent, a full disk, what a plugin sees) are held back while the main
//! check says that it is down, because that is one fault and not two.
//!
//! # Clocks
//!
//! The wall clock may be set. A poll adds at most two intervals to how long a
//! condition has held (see `Fault::count`), so that a
//! clock that jumps ahead, or a machine that slept, does not make an alert of
//! one sample. A clock that was set back restarts what was measured by it:
//! `since` of pending alerts and the order of polls. Rounds are not affected.
//!
//! # What is left to others
//!
//! Storing alerts with their notifications in one transaction, asking the
//! devices in [`Verdict::probe`], calling [`Engine::tick`] at [`Engine::wake`].

mod availability;
mod engine;
mod fault;
mod plugin;
mod settle;
mod side;
mod threshold;
mod topology;
mod verdict;
mod watched;
mod words;

pub use engine::{Engine, Reachability};
pub use plugin::{CANNOT_JUDGE, PluginStatus, PluginVerdict};
pub use verdict::Verdict;
