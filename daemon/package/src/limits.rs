//! `[limits]`: what a plugin wants to use. Less than its kind usually may it
//! simply takes; more it asks for, by the capability `limits` with patterns
//! such as `memory_mib=256`.

use contract::{Kind, Limits};
use model::Capabilities;

use crate::reader::{Findings, Section};

/// One limit as manifests write it.
struct Limit {
    key: &'static str,
    /// How many of what [`Limits`] counts are one of it.
    unit: u64,
    /// Nobody may grant more: the daemon's other work would suffer.
    most: u64,
    words: &'static str,
    get: fn(&Limits) -> u64,
    set: fn(&mut Limits, u64),
}

/// Never happens: no limit's `most` is that large.
fn small(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

const LIMITS: [Limit; 12] = [
    Limit {
        key: "cpu_ms",
        unit: 1,
        most: 10_000,
        words: "ms of processor time a call",
        get: |limits| limits.cpu_ms.into(),
        set: |limits, value| limits.cpu_ms = small(value),
    },
    Limit {
        key: "wall_ms",
        unit: 1,
        most: 60_000,
        words: "ms a call",
        get: |limits| limits.wall_ms.into(),
        set: |limits, value| limits.wall_ms = small(value),
    },
    Limit {
        key: "memory_mib",
        unit: MIB,
        // as much as the host lets an instance have
        most: 256,
        words: "MiB of memory a call",
        get: |limits| limits.memory,
        set: |limits, value| limits.memory = value,
    },
    Limit {
        key: "input_mib",
        unit: MIB,
        most: 64,
        words: "MiB of input a call",
        get: |limits| limits.input,
        set: |limits, value| limits.input = value,
    },
    Limit {
        key: "output_mib",
        unit: MIB,
        most: 64,
        words: "MiB of results a call",
        get: |limits| limits.output,
        set: |limits, value| limits.output = value,
    },
    Limit {
        key: "log_kib",
        unit: KIB,
        most: 1024,
        words: "KiB of log lines a call",
        get: |limits| limits.log_bytes.into(),
        set: |limits, value| limits.log_bytes = small(value),
    },
    Limit {
        key: "log_lines",
        unit: 1,
        most: 1_000,
        words: "log lines a call",
        get: |limits| limits.log_lines.into(),
        set: |limits, value| limits.log_lines = small(value),
    },
    Limit {
        key: "host_calls",
        unit: 1,
        most: 100_000,
        words: "questions to the daemon a call",
        get: |limits| limits.host_calls.into(),
        set: |limits, value| limits.host_calls = small(value),
    },
    Limit {
        key: "kv_kib",
        unit: KIB,
        most: 16 * KIB,
        words: "KiB of its own data",
        get: |limits| limits.kv_bytes.into(),
        set: |limits, value| limits.kv_bytes = small(value),
    },
    Limit {
        key: "kv_value_kib",
        unit: KIB,
        // as much as the store keeps
        most: 64,
        words: "KiB in one value of its own data",
        get: |limits| limits.kv_value.into(),
        set: |limits, value| limits.kv_value = small(value),
    },
    Limit {
        key: "kv_keys",
        unit: 1,
        most: 100_000,
        words: "keys of its own data",
        get: |limits| limits.kv_keys.into(),
        set: |limits, value| limits.kv_keys = small(value),
    },
    Limit {
        key: "operations",
        unit: 1,
        most: 1_000_000_000,
        words: "operations of its script a call",
        get: |limits| limits.operations,
        set: |limits, value| limits.operations = value,
    },
];

/// Reads `[limits]` of a plugin of `kind`; what is more than usual is put among
/// what it asks for.
pub(crate) fn read(
    root: &mut Section<'_>,
    kind: Kind,
    asks: &mut Capabilities,
    findings: &mut Findings<'_>,
) -> Limits {
    let usual = Limits::of(kind);
    let mut limits = usual.clone();
    let mut section = root.below("limits", findings);
    for limit in &LIMITS {
        let Some((at, value)) = section.count(limit.key, findings) else {
            continue;
        };
        if value == 0 || value > limit.most {
            let message = format!("limits.{} is {value}: it is 1 to {}", limit.key, limit.most);
            findings.note(at, message, format!("it counts {}", limit.words));
            continue;
        }
        (limit.set)(&mut limits, value * limit.unit);
        if value * limit.unit > (limit.get)(&usual) {
            let more = asks.0.entry("limits".to_owned()).or_default();
            more.insert(format!("{}={value}", limit.key));
        }
    }
    section.finish(findings);
    limits
}

/// `wanted`, but nothing more than usual beyond what is granted.
pub(crate) fn within(wanted: &Limits, kind: Kind, granted: &Capabilities) -> Limits {
    let usual = Limits::of(kind);
    let mut limits = wanted.clone();
    for limit in &LIMITS {
        let allowed = self::granted(granted, limit.key).unwrap_or(0);
        let most = (limit.get)(&usual).max(allowed.min(limit.most) * limit.unit);
        (limit.set)(&mut limits, (limit.get)(wanted).min(most));
    }
    limits
}

/// What is granted of the limit called `key`, in its unit.
pub(crate) fn granted(granted: &Capabilities, key: &str) -> Option<u64> {
    let of_key = |pattern: &str| {
        let (name, value) = pattern.split_once('=')?;
        value.parse().ok().filter(|_| name == key)
    };
    granted.patterns("limits").filter_map(of_key).max()
}

/// Whether `granted` allows at least what `pattern` says.
pub(crate) fn is_covered(pattern: &str, granted: &Capabilities) -> bool {
    let Some((key, value)) = pattern.split_once('=') else {
        return false;
    };
    let wanted = value.parse::<u64>().ok();
    wanted.is_some_and(|wanted| self::granted(granted, key) >= Some(wanted))
}

/// A pattern in words.
pub(crate) fn sentence(pattern: &str) -> String {
    let known = pattern.split_once('=').and_then(|(key, value)| {
        let limit = LIMITS.iter().find(|limit| limit.key == key)?;
        Some(format!("{value} {}", limit.words))
    });
    match known {
        Some(words) => format!("may use more than usual: up to {words}"),
        None => format!("may use more than usual: {pattern}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_written_in_a_unit_that_says_its_usual_value_exactly() {
        for kind in Kind::ALL {
            let usual = Limits::of(kind);
            for limit in &LIMITS {
                let value = (limit.get)(&usual);
                assert_eq!(value % limit.unit, 0, "{} of a {kind}", limit.key);
                assert!(
                    value <= limit.most * limit.unit,
                    "{} of a {kind}",
                    limit.key
                );
                let mut changed = usual.clone();
                (limit.set)(&mut changed, limit.unit);
                assert_eq!((limit.get)(&changed), limit.unit, "{}", limit.key);
            }
        }
    }

    #[test]
    fn what_is_not_granted_stays_as_usual_and_less_is_taken_freely() {
        let usual = Limits::of(Kind::Parser);
        let mut wanted = usual.clone();
        wanted.memory = 256 * MIB;
        wanted.cpu_ms = 5;
        let nothing = within(&wanted, Kind::Parser, &Capabilities::default());
        assert_eq!((nothing.memory, nothing.cpu_ms), (usual.memory, 5));
        let granted = |pattern: &str| {
            let patterns = [pattern.to_owned()].into();
            Capabilities([("limits".to_owned(), patterns)].into())
        };
        let some = within(&wanted, Kind::Parser, &granted("memory_mib=128"));
        assert_eq!(some.memory, 128 * MIB);
        let all = within(&wanted, Kind::Parser, &granted("memory_mib=512"));
        assert_eq!(all, wanted);
        // a grant that was tampered with has its end, too
        wanted.memory = u64::MAX;
        let most = within(&wanted, Kind::Parser, &granted("memory_mib=99999999999"));
        assert_eq!(most.memory, 256 * MIB);
    }
}
