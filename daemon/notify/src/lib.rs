//! Telling people: takes what the outbox holds to where it has to go.
//!
//! ```text
//! store's outbox ──Delivery──▶ lanes ──▶ letter ──▶ smtp ──Answer──▶ settle ──▶ store's outbox
//!                          (who is next)  (words)  (one line)     (what it means)
//! ```
//!
//! What this promises:
//!
//! - **At least once.** A delivery is marked as delivered only after the mail
//!   server took it (250). If the daemon dies between the two, the mail is sent
//!   once more after the restart: exactly one duplicate, with the same
//!   Message-ID, so that mail programs can tell. No second mail is sent before
//!   the first one's fate is on disk.
//! - **Oldest first.** Always per recipient; over all recipients as long as the
//!   server takes what it is given. A test that somebody asked for does not
//!   wait behind a server that is being left alone: who asks wants to know now.
//! - **A recipient's trouble is the recipient's.** Refused for good: parked with
//!   the server's words. Put off: only that recipient's mails wait.
//! - **A server's trouble is waited out.** The whole server is left alone for
//!   `retry_min`, twice as long after each failure, up to `retry_max`; trouble
//!   that only an operator can end (a wrong password) waits `retry_max` at once.
//!   New settings or a restart end the wait: every delivery gets one try.
//! - **No mail is lost to a template.** What cannot be rendered is rendered by
//!   the built-in template, and the status says so.
//! - **Nothing a device says gets out of its place**: not into a header, not
//!   into the HTML, not onto a terminal.
//!
//! What goes over a notifier plugin has a way of its own, `courier`, with the same
//! promises for each plugin by itself.
//!
//! It leaves to others: who is told of what (`rules` and the wiring write the
//! outbox), and what time it is.

mod channel;
mod courier;
#[cfg(test)]
mod desk;
mod drain;
#[cfg(test)]
mod golden;
mod lanes;
mod letter;
mod lines;
#[cfg(test)]
mod live;
mod outbox;
mod safe;
mod settings;
mod settle;
mod smtp;
mod status;
mod templates;
mod words;

pub use channel::Carried;
pub use courier::{Carrying, ChannelHealth, ChannelStatus, ChannelsStatus, Courier, drain_plugins};
pub use drain::drain;
pub use letter::Letter;
pub use settings::{MailError, MailSettings, Mailer, Secret, Tls};
pub use settle::{Answer, RetryPolicy, Trouble, Whose, settle};
pub use status::{MailHealth, MailStatus};
