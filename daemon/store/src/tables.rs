//! The format of the store's file: schema 3.
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
//! | `counter` | name | postcard u64: `schema`, `next_alert`, `next_delivery`, `heartbeat`, `writes` (transactions that somebody waited for; absent: 0), `notes` (audit lines that nobody waited for; absent: 0), `denied` (denied lines in the audit log; absent: 0), `denied_dropped` (denied ones that were dropped and that no line tells of yet; absent: 0), `denied_told` (when a line told of some, in ms; absent: 0), `wipe` (1: free pages are to be overwritten; absent: 0), `samples_checkpoint` (the first log file of samples that a start reads; absent: 0), `samples_next_segment` (no segment had this number or a higher one; absent: 0) |
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
//! | `plugin` | name | postcard `PluginRecord` |
//! | `plugin_kv` | (plugin, its key) | postcard `PluginValue`: what the plugin keeps for itself |
//! | `plugin_state` | (plugin, device) | postcard bytes: the state of a plugin that judges, at most 64 KiB |
//! | `group` | group | postcard [`KeptGroup`]: whose it is (`GroupKey`), a note of bytes (the postcard `Outcome` of the latest asking; empty: none is known), whether it is gone (a byte 1: its samples were deleted) |
//! | `series` | (columns, 0, piece) | the series of these columns, see [`crate::columns`] |
//! | `segment` | segment | postcard [`KeptSegment`]: tier (0 raw, 1 15m, 2 1h), span (0 fresh, 1 day, 2 month), ms of the first and of the last row, rows, samples, bytes, for each of the four kinds of metric its values and their bytes, CRC-32 of the index |
//!
//! Devices, alerts, deliveries, segments and milliseconds since 1970 are u64,
//! groups and columns u32, pieces u16. How a long body is cut into pieces is
//! said in [`crate::pieces`].
//!
//! The samples themselves are not in the file: they are in the log and the
//! segments in the directory beside it, `sotp.samples/` of `sotp.redb`, which
//! the crates `wal` and `segment` specify. What this file does not list there
//! does not exist. *Groups* (a device and a check), *columns* (what each value
//! of a row is) and segments are listed here under the numbers that log and
//! segments use for them.
//!
//! The packages of plugins are not in the file either: each is a file
//! `<SHA-256 in hex>.sotp-plugin` in the directory `sotp.plugins/` beside
//! `sotp.redb`. One that no record names counts for nothing.
//!
//! The three tables of plugins came within schema 3, so they may be absent: who
//! opens the file makes them. A build from before them opens the file, leaves
//! them alone and loses nothing, but knows no delivery to a plugin: let none
//! wait before going back to it.
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
//! Schema 3 came from 2 by moving the samples out of the tables `row` and
//! `chunk` into segments (see [`crate::migrate::to_segments`]). The tables
//! `totals`, `track`, `state` and `columns` went with them.

use std::net::IpAddr;

use model::{
    Alert, AuditRecord, CredentialRecord, Delivery, Device, Digest, Facts, KeyRing, PluginRecord,
    PluginValue, Policy, Rule, SecretRecord, SessionRecord, Tenant, TokenRecord, User,
};
use serde::{Deserialize, Serialize};

use crate::answers::StoredAnswer;
use crate::catalog::{KeptGroup, KeptSegment};
use crate::credentials::PlainCredential;
use crate::pieces::SERIES;
use crate::record::{Kept, Table};

/// The newest schema that this version reads, and the one that it writes.
pub(crate) const SCHEMA: u32 = 3;

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
pub(crate) const PLUGIN: Kept<&str, PluginRecord> = Kept::new("plugin", 1);
pub(crate) const PLUGIN_KV: Kept<(&str, &str), PluginValue> = Kept::new("plugin_kv", 1);
pub(crate) const PLUGIN_STATE: Kept<(&str, u64), Vec<u8>> = Kept::new("plugin_state", 1);
pub(crate) const GROUP: Kept<u32, KeptGroup> = Kept::new("group", 1);
pub(crate) const SEGMENT: Kept<u64, KeptSegment> = Kept::new("segment", 1);

/// Every table.
pub(crate) const ALL: &[&dyn Table] = &[
    &COUNTER,
    &DEVICE,
    &CREDENTIAL,
    &CREDENTIAL_PLAIN,
    &RULE,
    &ALERT,
    &ALERT_PAST,
    &QUEUED,
    &PARKED,
    &DELIVERED,
    &USER,
    &TENANT,
    &TOKEN,
    &POLICY,
    &SESSION,
    &SECRET,
    &KEY_RING,
    &AUDIT,
    &AUDIT_END,
    &ANSWER,
    &FACTS,
    &ADDRESS,
    &PLUGIN,
    &PLUGIN_KV,
    &PLUGIN_STATE,
    &GROUP,
    &SERIES,
    &SEGMENT,
];

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
pub(crate) const CHECKPOINT: &str = "samples_checkpoint";
pub(crate) const NEXT_SEGMENT: &str = "samples_next_segment";

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
