//! What end-to-end tests and benchmarks are made of: the real `sotpd` with a
//! folder of its own, simulated devices, real mail servers, network namespaces.
//!
//! Everything that is started here is ended here, by its process id. Nothing
//! sleeps for a fixed time: a test waits for a state, with a bound, and says what
//! it saw last when the bound runs out.

mod certificates;
mod daemon;
mod forward;
mod http;
mod https;
mod mail;
mod namespace;
mod people;
mod process;
mod site;
mod wait;

pub use certificates::{Authority, Identity, self_signed};
pub use daemon::{Daemon, Folder, local, new_key, write_private};
pub use forward::Forward;
pub use http::{Ask, Line, Response};
pub use https::Client;
pub use mail::{MailServer, Mailbox};
pub use namespace::Namespace;
pub use people::{ADMIN, PASSWORD, in_a_month};
pub use process::{Process, binary, is_root, tool};
pub use site::Site;
pub use wait::{eventually, eventually_true};
