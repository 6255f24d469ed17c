//! The contract's types as wasmtime's and back, by move: rows of values keep
//! their memory.

use contract as c;

use crate::bindings::{http, inventory, metrics, snmp, types};
use crate::bindings::{
    notifier::exports::sotp::plugin::notifier, parser::exports::sotp::plugin::parser,
    poller::exports::sotp::plugin::poller, remediation::exports::sotp::plugin::remediation,
    rule::exports::sotp::plugin::rule,
};

/// What is the same on the other side.
pub(crate) trait Turn<T> {
    fn turn(self) -> T;
}

impl<A: Turn<B>, B> Turn<Vec<B>> for Vec<A> {
    fn turn(self) -> Vec<B> {
        // of types of one size: in place
        self.into_iter().map(Turn::turn).collect()
    }
}

impl<A: Turn<B>, B> Turn<Option<B>> for Option<A> {
    fn turn(self) -> Option<B> {
        self.map(Turn::turn)
    }
}

impl<A1: Turn<A2>, B1: Turn<B2>, A2, B2> Turn<(A2, B2)> for (A1, B1) {
    fn turn(self) -> (A2, B2) {
        (self.0.turn(), self.1.turn())
    }
}

impl Turn<String> for String {
    fn turn(self) -> String {
        self
    }
}

/// A newtype of the contract's that is bare in the WIT.
macro_rules! bare {
    ($ours:path, $theirs:ty) => {
        impl Turn<$theirs> for $ours {
            fn turn(self) -> $theirs {
                self.0
            }
        }
        impl Turn<$ours> for $theirs {
            fn turn(self) -> $ours {
                $ours(self)
            }
        }
    };
}

bare!(c::Octets, Vec<u8>);
bare!(c::Oid, Vec<u32>);
bare!(c::Nanos, u64);

/// Records: fields that are the same type, and fields to turn.
macro_rules! record {
    ($ours:path, $theirs:path, same { $($same:ident)* } turn { $($turn:ident)* }) => {
        impl Turn<$theirs> for $ours {
            fn turn(self) -> $theirs {
                $theirs { $($same: self.$same,)* $($turn: self.$turn.turn(),)* }
            }
        }
        impl Turn<$ours> for $theirs {
            fn turn(self) -> $ours {
                $ours { $($same: self.$same,)* $($turn: self.$turn.turn(),)* }
            }
        }
    };
}

/// Enums and variants: bare cases, cases with the same type, cases to turn.
macro_rules! cases {
    ($ours:ty, $theirs:ty, bare { $($bare:ident)* } same { $($same:ident)* } turn { $($turn:ident)* }) => {
        cases!(@one $ours, $theirs, $($bare)*; $($same)*; $($turn)*);
        cases!(@one $theirs, $ours, $($bare)*; $($same)*; $($turn)*);
    };
    (@one $from:ty, $to:ty, $($bare:ident)*; $($same:ident)*; $($turn:ident)*) => {
        impl Turn<$to> for $from {
            fn turn(self) -> $to {
                match self {
                    $(Self::$bare => <$to>::$bare,)*
                    $(Self::$same(it) => <$to>::$same(it),)*
                    $(Self::$turn(it) => <$to>::$turn(it.turn()),)*
                }
            }
        }
    };
}

// --- types

cases!(c::Severity, types::Severity, bare { Info Warning Critical } same {} turn {});
cases!(c::Scalar, types::Scalar, bare {} same { Boolean Int Uint Float Text } turn { Bytes });
cases!(c::PluginError, types::PluginError,
    bare {} same { NotMine Malformed Config Unavailable Internal } turn {});
record!(c::Device, types::Device,
    same { id hostname address vendor model os os_version attrs } turn {});
record!(c::Event, types::Event, same { kind message attrs } turn { at severity });
record!(c::Point, types::Point, same { value } turn { at });
record!(c::Series, types::Series, same { metric labels } turn { points });
record!(c::Extension, types::Extension, same { name body } turn {});
record!(c::Link, inventory::Link,
    same { local_port remote_device remote_port protocol } turn {});

// --- snmp

impl Turn<snmp::Value> for c::SnmpValue {
    fn turn(self) -> snmp::Value {
        use snmp::Value as To;
        match self {
            Self::Integer(n) => To::Integer(n),
            Self::Unsigned32(n) => To::Unsigned32(n),
            Self::Counter32(n) => To::Counter32(n),
            Self::Counter64(n) => To::Counter64(n),
            Self::TimeTicks(n) => To::TimeTicks(n),
            Self::Octets(octets) => To::Octets(octets.turn()),
            Self::ObjectId(oid) => To::ObjectId(oid.turn()),
            Self::IpAddress(a, b, c, d) => To::IpAddress((a, b, c, d)),
            Self::Opaque(octets) => To::Opaque(octets.turn()),
            Self::Null => To::Null,
            Self::NoSuchObject => To::NoSuchObject,
            Self::NoSuchInstance => To::NoSuchInstance,
            Self::EndOfMibView => To::EndOfMibView,
        }
    }
}

impl Turn<c::SnmpValue> for snmp::Value {
    fn turn(self) -> c::SnmpValue {
        use c::SnmpValue as To;
        match self {
            Self::Integer(n) => To::Integer(n),
            Self::Unsigned32(n) => To::Unsigned32(n),
            Self::Counter32(n) => To::Counter32(n),
            Self::Counter64(n) => To::Counter64(n),
            Self::TimeTicks(n) => To::TimeTicks(n),
            Self::Octets(octets) => To::Octets(octets.turn()),
            Self::ObjectId(oid) => To::ObjectId(oid.turn()),
            Self::IpAddress((a, b, c, d)) => To::IpAddress(a, b, c, d),
            Self::Opaque(octets) => To::Opaque(octets.turn()),
            Self::Null => To::Null,
            Self::NoSuchObject => To::NoSuchObject,
            Self::NoSuchInstance => To::NoSuchInstance,
            Self::EndOfMibView => To::EndOfMibView,
        }
    }
}

record!(c::Varbind, snmp::Varbind, same {} turn { name value });
record!(c::Table, snmp::Table, same {} turn { indexes columns });
record!(c::Column, snmp::Column, same { rows } turn { base cells });
cases!(c::Cells, snmp::Cells, bare {} same { Ints Uints Texts } turn { Octets Mixed });

// --- metrics

cases!(c::MetricKind, metrics::MetricKind,
    bare { Gauge Counter32 Counter64 State } same {} turn {});
record!(c::MetricDesc, metrics::MetricDesc,
    same { name unit help labels states } turn { kind });
record!(c::MetricDescriptor, metrics::Descriptor, same { facts events } turn { metrics });
record!(c::Row, metrics::Row, same { labels values } turn {});
record!(c::Fact, metrics::Fact, same { key } turn { value });
record!(c::Output, metrics::Output, same { warnings } turn { rows facts events });

// --- http

record!(c::HttpRequest, http::Request, same { method url headers timeout_ms } turn { body });
record!(c::HttpResponse, http::Response, same { status headers } turn { body });

// --- parser

record!(c::SyslogMessage, parser::SyslogMessage,
    same { facility severity hostname app procid msgid structured message } turn { at });
cases!(c::Payload, parser::Payload,
    bare {} same { Text Json } turn { Snmp SnmpTable Syslog Bytes Extension });
record!(c::ParserInput, parser::Input, same { source } turn { device collected_at payload });

// --- rule

record!(c::RuleSelector, rule::Selector, same { name query window_s step_s } turn {});
record!(c::RuleDescriptor, rule::Descriptor, same { events interval_s } turn { selectors });
cases!(c::RuleTrigger, rule::Trigger, bare {} same {} turn { Window Event Extension });
record!(c::RuleInput, rule::Input, same { rule_id } turn { device at trigger state });
cases!(c::RuleStatus, rule::Status, bare { Ok Pending Firing Unknown } same {} turn {});
record!(c::Verdict, rule::Verdict, same { key summary attrs } turn { status severity });
record!(c::RuleOutput, rule::Output, same {} turn { verdicts state });

// --- remediation

cases!(c::CliMode, remediation::CliMode, bare { Exec Configure } same {} turn {});
record!(c::CliAction, remediation::CliAction, same { commands expect } turn { mode });
cases!(c::Comparison, remediation::Comparison, bare { Lt Le Eq Ne Ge Gt } same {} turn {});
record!(c::Check, remediation::Check,
    same { query threshold hold_s within_s } turn { comparison });
cases!(c::Action, remediation::Action,
    bare {} same { WaitS } turn { Cli Http SnmpSet Check Extension });
cases!(c::OnFailure, remediation::OnFailure, bare { Abort Proceed Undo } same {} turn {});
record!(c::Step, remediation::Step,
    same { id device_id title idempotent timeout_s } turn { action undo on_failure });
cases!(c::Risk, remediation::Risk, bare { ReadOnly Low Medium High } same {} turn {});
record!(c::Plan, remediation::Plan, same { summary } turn { risk steps verify });
record!(c::Incident, remediation::Incident,
    same { alert_id rule_id key summary attrs attempt } turn { severity since device });
cases!(c::StepOutcome, remediation::StepOutcome,
    bare { Done TimedOut Skipped } same { Failed Denied } turn {});
record!(c::StepResult, remediation::StepResult, same { step_id output } turn { outcome http });
record!(c::Stage, remediation::Stage, same {} turn { plan results });
cases!(c::Decision, remediation::Decision,
    bare {} same { Resolved GiveUp Escalate } turn { Run });

// --- notifier

cases!(c::Phase, notifier::Phase,
    bare { Opened Changed Resolved Remediated Test } same {} turn {});
record!(c::Notification, notifier::Notification,
    same { id summary attrs url } turn { phase severity at device });
cases!(c::Delivery, notifier::Delivery, bare {} same { Delivered RetryAfterS Failed } turn {});

// --- poller

cases!(c::Ask, poller::Ask,
    bare {} same { Cli } turn { SnmpGet SnmpWalk SnmpTable Http Extension });
cases!(c::Answer, poller::Answer,
    bare {} same { Text Error } turn { Snmp SnmpTable Http Extension });
cases!(c::Next, poller::Next, bare {} same {} turn { More Done });

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_of_snmp_comes_back() {
        use c::SnmpValue as V;
        let values = vec![
            V::Integer(-1),
            V::Unsigned32(1),
            V::Counter32(2),
            V::Counter64(3),
            V::TimeTicks(4),
            V::Octets(c::Octets(vec![5])),
            V::ObjectId(c::Oid(vec![1, 3])),
            V::IpAddress(1, 2, 3, 4),
            V::Opaque(c::Octets(vec![6])),
            V::Null,
            V::NoSuchObject,
            V::NoSuchInstance,
            V::EndOfMibView,
        ];
        let there: Vec<snmp::Value> = values.clone().turn();
        let back: Vec<c::SnmpValue> = there.turn();
        assert_eq!(back, values);
    }

    #[test]
    fn columns_keep_their_memory() {
        let cells = c::Cells::Octets(vec![c::Octets(vec![1, 2, 3]); 100]);
        let c::Cells::Octets(octets) = &cells else {
            unreachable!()
        };
        let place = octets.as_ptr().addr();
        let snmp::Cells::Octets(octets) = cells.turn() else {
            unreachable!()
        };
        assert_eq!(octets.as_ptr().addr(), place);
    }
}
