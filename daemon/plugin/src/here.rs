//! Plugins in this very process: for their authors' tests.

use std::sync::Arc;

use contract::limits::{CODE_BYTES, SCRIPT_BYTES};
use contract::{
    Call, Ended, Failure, Fault, FaultClass, HostAnswer, HostAsk, HostCalls, Limits,
    MetricDescriptor, Plugin, PluginError, Reply, Session,
};
use script::Script;
use wasm::{Compiling, Engine};

use crate::judge::{Terms, judge, suits};
use crate::{Code, Load, Replay};

/// Whether code is too large to be looked at.
pub(crate) fn check_size(code: &Code) -> Result<(), Fault> {
    let (what, bytes, limit) = match code {
        Code::Script { source, .. } => ("script", source.len(), SCRIPT_BYTES),
        Code::Component(bytes) => ("component", bytes.len(), CODE_BYTES),
    };
    if bytes <= limit {
        return Ok(());
    }
    let message = format!("the {what} has {bytes} bytes: at most {limit} are allowed");
    Err(Fault::new(FaultClass::Load, message))
}

/// A component and the engine that it runs in.
struct WithEngine {
    component: wasm::Component,
    _engine: Engine,
}

impl Plugin for WithEngine {
    fn call(&self, call: Call, session: Session) -> Ended {
        self.component.call(call, session)
    }
}

/// Loads a plugin into this process.
pub(crate) fn load(load: &Load) -> Result<Box<dyn Plugin>, Fault> {
    check_size(&load.code)?;
    match &load.code {
        Code::Script { file, source } => {
            let script = Script::compile(file, source, load.kind, &load.grants)?;
            Ok(Box::new(script))
        }
        Code::Component(bytes) => {
            let how = Compiling {
                for_its_author: load.for_its_author,
            };
            let code = wasm::compile(bytes, how)?;
            let engine = Engine::new(how)?;
            let component = engine.load(&code, load.kind, &load.grants, &load.limits)?;
            Ok(Box::new(WithEngine {
                component,
                _engine: engine,
            }))
        }
    }
}

/// A host that answers what was recorded, and else nothing.
pub(crate) struct Recorded(pub(crate) Vec<(HostAsk, HostAnswer)>);

impl HostCalls for Recorded {
    fn ask(&self, ask: HostAsk) -> Result<HostAnswer, Fault> {
        let recorded = self.0.iter().find(|(question, _)| *question == ask);
        Ok(recorded.map_or_else(|| nothing(&ask), |(_, answer)| answer.clone()))
    }
}

/// The answer that nothing is known.
pub(crate) fn nothing(ask: &HostAsk) -> HostAnswer {
    match ask {
        HostAsk::KvGet(_) => HostAnswer::Value(None),
        HostAsk::KvKeys { .. } => HostAnswer::Keys(Vec::new()),
        HostAsk::Device(_) => HostAnswer::Device(None),
        HostAsk::Fact { .. } => HostAnswer::Fact(None),
        HostAsk::Links(_) => HostAnswer::Links(Vec::new()),
        HostAsk::Query { .. } => HostAnswer::Series(Ok(Vec::new())),
    }
}

/// Makes a call of a golden case in this process.
pub(crate) fn replay(plugin: &dyn Plugin, load: &Load, replay: Replay) -> Ended {
    if let Err(fault) = suits(&replay.call, load.kind) {
        return ended(fault);
    }
    let function = replay.call.function();
    let host: Arc<dyn HostCalls> = Arc::new(Recorded(replay.host));
    let settings = Arc::new(replay.settings);
    let session = || {
        Session::new(
            replay.now,
            load.limits.clone(),
            load.grants.clone(),
            Arc::clone(&settings),
            Arc::clone(&host),
        )
    };
    let described = if matches!(function, "parse" | "resume") {
        match described(plugin.call(Call::Describe, session())) {
            Ok(described) => described,
            Err(failure) => return failed(failure),
        }
    } else {
        None
    };
    let terms = Terms {
        kind: load.kind,
        function,
        limits: &load.limits,
        grants: &load.grants,
        described: described.as_ref(),
    };
    match checked_size(&replay.call, &load.limits) {
        Ok(()) => judge(plugin.call(replay.call, session()), terms),
        Err(failure) => failed(failure),
    }
}

fn described(ended: Ended) -> Result<Option<MetricDescriptor>, Failure> {
    match ended.result? {
        Reply::Metrics(described) => Ok(Some(described)),
        _ => Ok(None),
    }
}

fn checked_size(call: &Call, limits: &Limits) -> Result<(), Failure> {
    let bytes = postcard::experimental::serialized_size(call).unwrap_or(usize::MAX);
    input_fits(bytes, limits)
}

/// Whether a call's input is small enough.
///
/// # Errors
///
/// Says that the input is at fault: the plugin is not.
pub(crate) fn input_fits(bytes: usize, limits: &Limits) -> Result<(), Failure> {
    if bytes as u64 <= limits.input {
        return Ok(());
    }
    let limit = limits.input;
    let message = format!("the input has {bytes} bytes: at most {limit} are allowed");
    Err(PluginError::Malformed(message).into())
}

/// A call that came to nothing before it began.
pub(crate) fn ended(fault: Fault) -> Ended {
    failed(fault.into())
}

pub(crate) fn failed(failure: Failure) -> Ended {
    Ended {
        result: Err(failure),
        log: Vec::new(),
        kv: Vec::new(),
        usage: contract::Usage::default(),
    }
}
