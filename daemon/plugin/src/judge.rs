//! Whether what a call ended with is what may come of it. Asked in the host, so
//! that nothing useless crosses the boundary; and in the daemon, which does
//! not believe the host.

use contract::check::TEXT_BYTES;
use contract::limits::KEY_BYTES;
use contract::{
    Call, Ended, Failure, Fault, FaultClass, Grants, Kind, Limits, LogLine, MetricDescriptor, Next,
    PluginError, Reply, check,
};

/// Fields of a log line; `Session` allows as many.
const FIELDS: usize = 32;
/// What a log line and each of its fields count beside their text, so that
/// empty ones are not free.
const ENTRY_BYTES: usize = 16;
/// Callers that a fault names.
const TRACE: usize = 64;

/// What a reply is checked against.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms<'a> {
    pub(crate) kind: Kind,
    pub(crate) function: &'static str,
    pub(crate) limits: &'a Limits,
    pub(crate) grants: &'a Grants,
    /// What a parser or poller described; `None` while it is asked.
    pub(crate) described: Option<&'a MetricDescriptor>,
}

/// Makes a fault of a result that breaks a rule, and cuts the log and what is
/// said of a failure: both are kept and shown.
pub(crate) fn judge(mut ended: Ended, terms: Terms<'_>) -> Ended {
    ended.log.truncate(terms.limits.log_lines as usize);
    let mut left = terms.limits.log_bytes as usize;
    ended.log.retain_mut(|line| {
        line.fields.truncate(FIELDS);
        line.fields.shrink_to_fit();
        let bytes = log_bytes(line);
        let fits = bytes <= left;
        left = left.saturating_sub(bytes);
        fits
    });
    ended.log.shrink_to_fit();
    if let Ok(reply) = &ended.result
        && let Err(fault) = kept(&ended, terms).and_then(|()| fits(reply, terms))
    {
        ended.result = Err(fault.into());
    }
    if let Err(failure) = &mut ended.result {
        ended.kv = Vec::new();
        cut_failure(failure);
    }
    ended
}

fn log_bytes(line: &LogLine) -> usize {
    let fields = line.fields.iter();
    let fields = fields.map(|(name, value)| ENTRY_BYTES + name.len() + value.len());
    ENTRY_BYTES + line.message.len() + fields.sum::<usize>()
}

fn cut_failure(failure: &mut Failure) {
    match failure {
        Failure::Said(
            PluginError::NotMine(text)
            | PluginError::Malformed(text)
            | PluginError::Config(text)
            | PluginError::Unavailable(text)
            | PluginError::Internal(text),
        ) => cut(text),
        Failure::Fault(fault) => cut_fault(fault),
    }
}

/// Cuts what a fault says to what people read.
pub(crate) fn cut_fault(fault: &mut Fault) {
    cut(&mut fault.message);
    fault.trace.truncate(TRACE);
    fault.trace.shrink_to_fit();
    let place = fault.place.as_mut().map(|place| &mut place.file);
    let texts = fault.trace.iter_mut().chain(&mut fault.hint).chain(place);
    texts.for_each(cut);
}

fn cut(text: &mut String) {
    if text.len() > TEXT_BYTES {
        text.truncate(text.floor_char_boundary(TEXT_BYTES));
        // what was cut off is not kept either
        text.shrink_to_fit();
    }
}

fn bad(message: impl Into<String>) -> Fault {
    Fault::new(FaultClass::BadResult, message)
}

fn kept(ended: &Ended, terms: Terms<'_>) -> Result<(), Fault> {
    if ended.kv.is_empty() {
        return Ok(());
    }
    if !terms.grants.kv {
        return Err(Fault::new(
            FaultClass::NotGranted,
            "it wants values kept, which it was not granted",
        ));
    }
    let limits = terms.limits;
    let mut bytes = 0;
    for write in &ended.kv {
        let value = write.value.as_ref().map_or(0, |value| value.0.len());
        let is_key = (1..=KEY_BYTES).contains(&write.key.len());
        if !is_key || value > limits.kv_value as usize {
            return Err(bad("it wants a value kept that is too large"));
        }
        bytes += write.key.len() + value;
    }
    if bytes > limits.kv_bytes as usize || ended.kv.len() > limits.host_calls as usize {
        return Err(bad("it wants too many values kept"));
    }
    Ok(())
}

/// Whether `reply` is of the function that was called, and keeps the contract.
fn fits(reply: &Reply, terms: Terms<'_>) -> Result<(), Fault> {
    let is_of_function = match (terms.function, reply) {
        ("describe", Reply::Metrics(_)) => matches!(terms.kind, Kind::Parser | Kind::Poller),
        ("describe", Reply::Rule(_)) => terms.kind == Kind::Rule,
        ("describe", Reply::Nothing) => {
            matches!(terms.kind, Kind::Remediation | Kind::Notifier)
        }
        ("parse", Reply::Output(_))
        | ("evaluate", Reply::Verdicts(_))
        | ("decide", Reply::Decision(_))
        | ("render", Reply::Requests(_))
        | ("interpret", Reply::Delivery(_))
        | ("start", Reply::Asks(_))
        | ("resume", Reply::Next(_)) => true,
        _ => false,
    };
    if !is_of_function {
        return Err(bad(format!("its answer is none to {}", terms.function)));
    }
    check::reply(reply)?;
    match (reply, terms.described) {
        (Reply::Output(output) | Reply::Next(Next::Done(output)), Some(described)) => {
            check::output(described, output)
        }
        (Reply::Output(_) | Reply::Next(Next::Done(_)), None) => {
            Err(bad("it did not describe what it measures"))
        }
        _ => Ok(()),
    }
}

/// Whether `call` can be made to a plugin of `kind`.
pub(crate) fn suits(call: &Call, kind: Kind) -> Result<(), Fault> {
    match call.kind() {
        Some(other) if other != kind => {
            let function = call.function();
            let message = format!("it is a {kind}, which has no function {function}");
            Err(Fault::new(FaultClass::Load, message))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use contract::{KvWrite, LogLevel, Octets, Output, Place, Usage};

    fn judged(change: impl FnOnce(&mut Ended), function: &'static str, kv: bool) -> Ended {
        judged_within(change, function, kv, &Limits::of(Kind::Parser))
    }

    fn judged_within(
        change: impl FnOnce(&mut Ended),
        function: &'static str,
        kv: bool,
        limits: &Limits,
    ) -> Ended {
        let mut ended = Ended {
            result: Ok(Reply::Output(Output::default())),
            log: Vec::new(),
            kv: Vec::new(),
            usage: Usage::default(),
        };
        change(&mut ended);
        let grants = Grants {
            kv,
            ..Grants::default()
        };
        let terms = Terms {
            kind: Kind::Parser,
            function,
            limits,
            grants: &grants,
            described: Some(&MetricDescriptor::default()),
        };
        judge(ended, terms)
    }

    fn class(ended: &Ended) -> FaultClass {
        match &ended.result {
            Err(Failure::Fault(fault)) => fault.class,
            other => panic!("no fault: {other:?}"),
        }
    }

    #[test]
    fn an_answer_to_another_question_is_none() {
        assert!(judged(|_| (), "parse", false).result.is_ok());
        let other = |ended: &mut Ended| ended.result = Ok(Reply::Nothing);
        assert_eq!(class(&judged(other, "parse", false)), FaultClass::BadResult);
        assert_eq!(
            class(&judged(other, "describe", false)),
            FaultClass::BadResult
        );
    }

    #[test]
    fn what_is_kept_is_granted_and_small() {
        let keep = |bytes: usize| {
            move |ended: &mut Ended| {
                ended.kv.push(KvWrite {
                    key: "k".to_owned(),
                    value: Some(Octets(vec![0; bytes])),
                    ttl_s: None,
                });
            }
        };
        assert_eq!(judged(keep(10), "parse", true).kv.len(), 1);
        let refused = judged(keep(10), "parse", false);
        assert_eq!(class(&refused), FaultClass::NotGranted);
        assert!(refused.kv.is_empty());
        let large = judged(keep((64 << 10) + 1), "parse", true);
        assert_eq!(class(&large), FaultClass::BadResult);
    }

    #[test]
    fn a_log_beyond_its_limits_is_cut() {
        let line = |bytes: usize| LogLine {
            level: LogLevel::Info,
            message: "x".repeat(bytes),
            fields: Vec::new(),
        };
        let many = judged(|ended| ended.log = vec![line(1); 5_000], "parse", false);
        assert_eq!(many.log.len(), 100);
        let long = judged(|ended| ended.log = vec![line(40 << 10); 3], "parse", false);
        assert_eq!(long.log.len(), 1);
    }

    #[test]
    fn a_log_of_nothing_is_cut_as_well() {
        let line = LogLine {
            level: LogLevel::Info,
            message: String::new(),
            fields: vec![(String::new(), String::new()); 10_000],
        };
        let empty = judged(|ended| ended.log = vec![line; 100], "parse", false);
        assert!(empty.log.iter().all(|line| line.fields.len() == FIELDS));
        let free = |ended: &mut Ended| {
            let line = LogLine {
                level: LogLevel::Info,
                message: String::new(),
                fields: Vec::new(),
            };
            ended.log = vec![line; 3];
        };
        let limits = Limits {
            log_bytes: 2 * u32::try_from(ENTRY_BYTES).unwrap(),
            ..Limits::of(Kind::Parser)
        };
        assert_eq!(judged_within(free, "parse", false, &limits).log.len(), 2);
    }

    #[test]
    fn what_is_said_of_a_failure_is_cut() {
        let long = "ü".repeat(8 << 20);
        let said = |text: &String| -> Failure { PluginError::Malformed(text.clone()).into() };
        let ended = judged(|ended| ended.result = Err(said(&long)), "parse", false);
        assert_eq!(ended.result, Err(said(&"ü".repeat(TEXT_BYTES / 2))));
        let fault = Fault {
            class: FaultClass::Trap,
            message: long.clone(),
            place: Some(Place {
                file: long.clone(),
                ..Place::default()
            }),
            trace: vec!["ü".repeat(TEXT_BYTES); 2 * TRACE],
            hint: Some(long),
        };
        let ended = judged(|ended| ended.result = Err(fault.into()), "parse", false);
        let bytes = postcard::to_stdvec(&ended).unwrap().len();
        assert!(bytes < (TRACE + 4) * TEXT_BYTES, "{bytes}");
        assert_eq!(class(&ended), FaultClass::Trap);
    }
}
