//! The format of the store's file: schema 2.
//!
//! One redb file (format 3). Keys are whole numbers, tuples of them, or text.
//! Every value is `version byte, body, CRC-32` (see [`crate::record`]); the sum
//! covers the table's name, the key's bytes as redb writes them, the version
//! and the body. Numbers in bodies of our own making are LEB128 varints;
//! "signed" means zigzag. "postcard" is the postcard encoding of the named type
//! of the crate `model`, whose fields must not move without a migration.
//!
//! | table | key | value, in version 1 unless said |
//! |---|---|---|
//! | `counter` | name | postcard u64: `schema`, `next_alert`, `next_delivery`, `heartbeat`, `writes` (transactions that somebody waited for; absent: 0), `notes` (audit lines that nobody waited for; absent: 0), `denied` (denied lines in the audit log; absent: 0), `denied_dropped` (denied ones that were dropped and that no line tells of yet; absent: 0), `denied_told` (when a line told of some, in ms; absent: 0), `wipe` (1: free pages are to be overwritten; absent: 0) |
//! | `device` | device | version 2, postcard `Device`, deleted ones too |
//! | `credential` | name | version 2, postcard `CredentialRecord` |
//! | `credential_plain` | name | postcard `(Credential, updated)`: those of schema 1, until they are sealed |
//! | `rule` | name | postcard `Rule`: those of the API |
//! | `alert` | alert | postcard `Alert` that is not resolved |
//! | `alert_past` | alert | postcard `Alert` that is resolved |
//! | `queued` | delivery | postcard `Delivery` to be tried |
//! | `parked` | delivery | postcard `Delivery` that was refused for good |
//! | `delivered` | delivery | postcard `Delivery` that is done |
//! | `user` | name | postcard `User` |
//! | `tenant` | name | postcard `Tenant`; the default one may be absent |
//! | `token` | number | postcard `TokenRecord` |
//! | `policy` | 0 | postcard `Policy` |
//! | `session` | number | postcard `SessionRecord` |
//! | `secret` | name | postcard `SecretRecord` |
//! | `key_ring` | 0 | postcard `KeyRing` |
//! | `audit` | line, from 1 | postcard `AuditRecord` |
//! | `audit_end` | `head`, `anchor` | postcard [`AuditMark`]: the newest line, and the newest of those removed at the front |
//! | `answer` | digest | postcard `StoredAnswer` |
//! | `facts` | device | postcard `Facts` |
//! | `address` | host name | postcard `IpAddr`: the last one it was known to have |
//! | `totals` | 0 | postcard [`Totals`]: what the sample tables hold |
//! | `track` | track | postcard [`TrackKey`]: whose samples these are |
//! | `state` | track | postcard [`TrackState`]: how far it is |
//! | `columns` | columns | postcard [`ColumnsEntry`]: fingerprint and last use |
//! | `series` | (columns, 0, piece) | the series of these columns, see [`crate::samples::columns`] |
//! | `row` | (track, ms, piece) | one poll's values, see [`crate::samples::row`] |
//! | `chunk` | (track, ms of its first row, piece) | a run of rows by columns, see [`crate::samples::chunk`] |
//!
//! Devices, alerts, deliveries and milliseconds since 1970 are u64, tracks and
//! columns u32, pieces u16. How a long body is cut into pieces is said in
//! [`crate::samples::pieces`].
//!
//! The audit log is a chain: the hash of a line is the SHA-256 of these, one
//! after the other: the ASCII text `sotp audit 1`; seq and ms as u64; actor and
//! origin; request; action and object; tenant; outcome (a byte 0 if done, or a
//! byte 1 and why it was denied); before; after; the hash of the line before
//! (32 zero bytes before the first). Whole numbers are big-endian; a text is
//! its length in bytes as u32 and its UTF-8; what may be absent is a byte 0, or
//! a byte 1 and the text.
//!
//! A table `wipe` of meaningless bytes is there only while free pages are being
//! overwritten: what schema 1 kept in plain text does not stay in them.
//!
//! Schema 2 came from 1 by giving each device the default tenant, by writing
//! `-` for `/` in the names of rules and credentials, and by keeping what was
//! in `credential` in `credential_plain`.
//!
//! A *track* is a run of samples of one device and one check in which time only
//! goes forward. When the clock is set back, a new track of the same device and
//! check begins; a reader merges them by time.

use std::net::IpAddr;

use model::{
    Alert, AuditRecord, CredentialRecord, Delivery, Device, Digest, Facts, GroupKey, KeyRing,
    Outcome, Policy, Rule, SecretRecord, SessionRecord, Tenant, TokenRecord, User,
};
use serde::{Deserialize, Serialize};

use crate::answers::StoredAnswer;
use crate::credentials::PlainCredential;
use crate::record::Kept;

/// The newest schema that this version reads, and the one that it writes.
pub(crate) const SCHEMA: u32 = 2;

pub(crate) const COUNTER: Kept<&str, u64> = Kept::new("counter", 1);
pub(crate) const DEVICE: Kept<u64, Device> = Kept::new("device", 2);
pub(crate) const CREDENTIAL: Kept<&str, CredentialRecord> = Kept::new("credential", 2);
pub(crate) const CREDENTIAL_PLAIN: Kept<&str, PlainCredential> = Kept::new("credential_plain", 1);
pub(crate) const RULE: Kept<&str, Rule> = Kept::new("rule", 1);
pub(crate) const ALERT: Kept<u64, Alert> = Kept::new("alert", 1);
pub(crate) const ALERT_PAST: Kept<u64, Alert> = Kept::new("alert_past", 1);
pub(crate) const QUEUED: Kept<u64, Delivery> = Kept::new("queued", 1);
pub(crate) const PARKED: Kept<u64, Delivery> = Kept::new("parked", 1);
pub(crate) const DELIVERED: Kept<u64, Delivery> = Kept::new("delivered", 1);
pub(crate) const USER: Kept<&str, User> = Kept::new("user", 1);
pub(crate) const TENANT: Kept<&str, Tenant> = Kept::new("tenant", 1);
pub(crate) const TOKEN: Kept<&str, TokenRecord> = Kept::new("token", 1);
pub(crate) const POLICY: Kept<u32, Policy> = Kept::new("policy", 1);
pub(crate) const SESSION: Kept<&str, SessionRecord> = Kept::new("session", 1);
pub(crate) const SECRET: Kept<&str, SecretRecord> = Kept::new("secret", 1);
pub(crate) const KEY_RING: Kept<u32, KeyRing> = Kept::new("key_ring", 1);
pub(crate) const AUDIT: Kept<u64, AuditRecord> = Kept::new("audit", 1);
pub(crate) const AUDIT_END: Kept<&str, AuditMark> = Kept::new("audit_end", 1);
pub(crate) const ANSWER: Kept<&[u8], StoredAnswer> = Kept::new("answer", 1);
pub(crate) const FACTS: Kept<u64, Facts> = Kept::new("facts", 1);
pub(crate) const ADDRESS: Kept<&str, IpAddr> = Kept::new("address", 1);
pub(crate) const TOTALS: Kept<u32, Totals> = Kept::new("totals", 1);
pub(crate) const TRACK: Kept<u32, TrackKey> = Kept::new("track", 1);
pub(crate) const STATE: Kept<u32, TrackState> = Kept::new("state", 1);
pub(crate) const COLUMNS: Kept<u32, ColumnsEntry> = Kept::new("columns", 1);

/// Keys of [`COUNTER`].
pub(crate) const SCHEMA_KEY: &str = "schema";
pub(crate) const NEXT_ALERT: &str = "next_alert";
pub(crate) const NEXT_DELIVERY: &str = "next_delivery";
pub(crate) const HEARTBEAT: &str = "heartbeat";
pub(crate) const WRITES: &str = "writes";
pub(crate) const NOTES: &str = "notes";
pub(crate) const DENIED: &str = "denied";
pub(crate) const DENIED_DROPPED: &str = "denied_dropped";
pub(crate) const DENIED_TOLD: &str = "denied_told";
pub(crate) const WIPE: &str = "wipe";

/// The key of tables that have one row.
pub(crate) const ONLY: u32 = 0;

/// Keys of [`AUDIT_END`].
pub(crate) const HEAD: &str = "head";
pub(crate) const ANCHOR: &str = "anchor";

/// A line of the audit log, without what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditMark {
    pub(crate) seq: u64,
    pub(crate) hash: Digest,
}

impl AuditMark {
    /// Before the first line.
    pub(crate) const START: AuditMark = AuditMark {
        seq: 0,
        hash: Digest([0; 32]),
    };
}

/// What the sample tables hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Totals {
    /// Polls' rows, in chunks or not.
    pub(crate) rows: u64,
    /// Values in them, those that were not measured included.
    pub(crate) samples: u64,
    pub(crate) chunks: u64,
    /// Of `samples`, those in chunks.
    pub(crate) chunk_samples: u64,
    /// What the chunks take, checksums included.
    pub(crate) chunk_bytes: u64,
}

/// Whose samples a track has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TrackKey {
    pub(crate) group: GroupKey,
}

/// How far a track is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct TrackState {
    /// The newest row's time in ms; 0 if there is none.
    pub(crate) newest: u64,
    /// Rows that are not yet in chunks.
    pub(crate) run: u32,
    /// Up to this row, in ms, history was removed because of its age.
    pub(crate) trimmed: u64,
    /// How the latest asking went.
    pub(crate) outcome: Option<Outcome>,
}

/// What is known of columns without reading their series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ColumnsEntry {
    pub(crate) fingerprint: u64,
    /// When a row was last written with them, in ms, exact to a day.
    pub(crate) used: u64,
}
