//! The words every stage shares.
//!
//! Plain data and the arithmetic that belongs to it. No I/O, no clock, no
//! async: if a type here needs one of those, it belongs to a stage.
//!
//! The types derive serde for the store alone, which keeps them as postcard; a
//! field that moves changes the store's format. What people and scripts see is
//! defined in `api`.

mod access;
mod alert;
mod answer;
mod audit;
mod device;
mod facts;
mod metric;
mod network;
mod plugin;
mod reading;
mod rule;
mod secret;
mod status;
mod time;

pub use access::{
    Binding, Digest, NotATenant, NotAUser, OidcSubject, PasswordHash, Permission, Policy, Quota,
    Role, Scope, SessionId, SessionRecord, SignIn, Tenant, TenantName, TokenId, TokenProof,
    TokenRecord, TotpRecord, User, UserName,
};
pub use alert::{
    Alert, AlertId, AlertState, Channel, Delivery, DeliveryState, NotificationEvent, OutboxId,
};
pub use answer::{
    Failure, FailureKind, Oid, PingAnswer, Probe, SnmpAnswer, SnmpColumn, SnmpExtra,
    SnmpExtraAnswer, SnmpPlan, SnmpTable, SnmpValue, SnmpWalk, TableAsk, Varbind,
};
pub use audit::{Actor, AuditDraft, AuditOutcome, AuditRecord, By};
pub use device::{
    Address, Check, Credential, CredentialName, Device, DeviceDraft, DeviceId, DeviceKind,
    IcmpPoll, NotAName, NotAnAddress, PollSettings, SnmpPoll, checked_name,
};
pub use facts::{Facts, Interface, SystemFacts};
pub use metric::{
    BUILT_IN_METRICS, Columns, Labels, MetricInfo, MetricKind, SeriesKey, metric_info,
};
pub use network::Network;
pub use plugin::{Capabilities, NotAPlugin, PluginName, PluginRecord, PluginValue, PluginVersion};
pub use reading::{Breaks, GroupKey, Outcome, PollReport, PollRow, Reading, counter_rate};
pub use rule::{Comparison, Condition, DownAfter, Rule, RuleName, RuleSource, Selector, Severity};
pub use secret::{
    CredentialKind, CredentialRecord, KeyId, KeyInfo, KeyRing, SealedValue, SecretName,
    SecretRecord, SecretVersion,
};
pub use status::DeviceState;
pub use time::{NotATimestamp, Timestamp};
