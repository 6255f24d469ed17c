//! Plugins that are Rhai scripts: the same five kinds as components, behind the
//! same [`Plugin`], with the same limits and the same errors.
//!
//! - [`Script::compile`] finds what can be found without running: syntax,
//!   misspelt functions and variables, functions that are missing.
//! - A call gets a scope of its own; nothing of one call reaches the next. What
//!   it says to the host goes through [`contract::Session`].
//! - Rows, verdicts and the like are handed to the host as they are found
//!   ([`running`]), so that no script builds large arrays: Rhai measures a
//!   value whenever it changes, which makes that quadratic.
//! - A fault knows its line, an endless loop its loop ([`blame`]).
//!
//! `eval`, `import`, files, sleeping and the wall clock do not exist here.

mod blame;
mod convert;
mod engine;
mod lint;
mod prelude;
mod reference;
mod running;

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use contract::{
    Call, Ended, Failure, Fault, FaultClass, Grants, Kind, MetricDescriptor, Next, Plugin, Reply,
    Session, Settings, Usage,
};
use rhai::{AST, CallFnOptions, Dynamic, Engine, Scope};

pub use reference::reference;

use blame::Blame;
use running::Running;

/// Stack that a thread needs which calls a script: values within values may
/// be as deep as they may be large, and Rhai recurses over them. Untouched
/// pages cost nothing.
pub const STACK_BYTES: usize = 64 << 20;

/// A script that is compiled.
pub struct Script {
    kind: Kind,
    engine: Engine,
    /// For calls that a limit ended, to see where.
    tracing: OnceLock<Engine>,
    ast: AST,
    blame: Blame,
    described: Mutex<Option<Described>>,
}

/// What `describe` said under which settings.
struct Described {
    settings: Settings,
    metrics: Arc<MetricDescriptor>,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Script {
    /// Compiles a script; `file` is what its author calls it. What is not
    /// granted compiles as well: using it ends the call.
    ///
    /// # Errors
    ///
    /// Says what is wrong with it, where, and what may have been meant.
    pub fn compile(
        file: &str,
        source: &str,
        kind: Kind,
        _grants: &Grants,
    ) -> Result<Script, Fault> {
        let built = std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            let built = thread.spawn_scoped(scope, || build(file, source, kind));
            built.ok()?.join().ok()
        });
        built.unwrap_or_else(|| {
            let message = format!("the compiler broke on {file}");
            Err(Fault::new(FaultClass::Load, message))
        })
    }

    fn run(&self, call: Call, mut running: Box<Running>) -> (Result<Reply, Failure>, Box<Running>) {
        if matches!(call, Call::Parse(_) | Call::Resume { .. }) {
            let (described, back) = self.described(running);
            running = back;
            match described {
                Ok(metrics) => running.metrics = metrics,
                Err(failure) => return (Err(failure), running),
            }
        }
        let arguments = match prelude::arguments(call, &mut running) {
            Ok(arguments) => arguments,
            Err(failure) => return (Err(failure), running),
        };
        self.invoke(arguments, running)
    }

    /// What `describe` says under the settings of this call: asked once, since
    /// it may look at nothing else.
    fn described(
        &self,
        running: Box<Running>,
    ) -> (Result<Arc<MetricDescriptor>, Failure>, Box<Running>) {
        {
            let known = self
                .described
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(known) = &*known
                && known.settings == *running.session.settings()
            {
                return (Ok(Arc::clone(&known.metrics)), running);
            }
        }
        let arguments = prelude::Arguments::none("describe");
        let (reply, mut running) = self.invoke(arguments, running);
        running.describing = false;
        let metrics = match reply {
            Ok(Reply::Metrics(metrics)) => Arc::new(metrics),
            Ok(_) => Arc::default(),
            Err(failure) => return (Err(failure), running),
        };
        let described = Described {
            settings: running.session.settings().clone(),
            metrics: Arc::clone(&metrics),
        };
        *self
            .described
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(described);
        (Ok(metrics), running)
    }

    /// Calls one function and makes a reply of what it did.
    fn invoke(
        &self,
        arguments: prelude::Arguments,
        mut running: Box<Running>,
    ) -> (Result<Reply, Failure>, Box<Running>) {
        let prelude::Arguments { function, values } = arguments;
        if !lint::is_needed(self.kind, function) && !self.defines(function, values.len()) {
            return (prelude::default_reply(function, &running), running);
        }
        running.describing = function == "describe";
        let kept = values.clone();
        let Some((result, mut running)) =
            running::with(running, || self.function(&self.engine, function, values))
        else {
            unreachable!("the call is this thread's until it is taken back")
        };
        let value = match result {
            None => {
                let fault = Fault::new(FaultClass::Trap, "the script engine broke");
                return (Err(fault.into()), running);
            }
            Some(Err(error)) => {
                let is_vague = blame::is_vague(&error, &running);
                let failure = self
                    .blame
                    .failure(*error, &running, &self.engine, &self.ast);
                let failure = match failure {
                    Failure::Fault(fault) if is_vague => {
                        self.traced(fault, function, kept, &running).into()
                    }
                    failure => failure,
                };
                return (Err(failure), running);
            }
            Some(Ok(value)) => value,
        };
        let reply = prelude::reply(self.kind, function, value, &mut running);
        let reply = reply.and_then(|reply| self.checked(&reply, &running).map(|()| reply));
        let reply = reply.map_err(|fault| self.blame.in_function(fault, function).into());
        (reply, running)
    }

    fn checked(&self, reply: &Reply, running: &Running) -> Result<(), Fault> {
        contract::check::reply(reply)?;
        match reply {
            Reply::Output(output) | Reply::Next(Next::Done(output)) => {
                contract::check::output(&running.metrics, output)
            }
            _ => Ok(()),
        }
    }

    fn defines(&self, name: &str, arguments: usize) -> bool {
        self.ast
            .iter_functions()
            .any(|function| function.name == name && function.params.len() == arguments)
    }

    /// A fault whose place is not known, with its place, if it happens again.
    fn traced(&self, fault: Fault, function: &str, values: Vec<Dynamic>, call: &Running) -> Fault {
        let engine = self.tracing.get_or_init(|| engine::tracing(self.kind));
        let again = Box::new(call.again());
        let ended = running::with(again, || self.function(engine, function, values));
        if let Some((Some(Err(error)), again)) = ended
            && let Failure::Fault(traced) = self.blame.failure(*error, &again, engine, &self.ast)
            && blame::is_the_same(fault.class, traced.class)
        {
            return Fault {
                class: fault.class,
                message: fault.message,
                ..traced
            };
        }
        self.blame.in_function(fault, function)
    }

    fn function(
        &self,
        engine: &Engine,
        name: &str,
        arguments: Vec<Dynamic>,
    ) -> Result<Dynamic, Box<rhai::EvalAltResult>> {
        let options = CallFnOptions::new().eval_ast(false);
        let mut scope = Scope::new();
        engine.call_fn_with_options(options, &mut scope, &self.ast, name, arguments)
    }
}

impl Plugin for Script {
    /// Needs a thread with [`STACK_BYTES`] of stack.
    fn call(&self, call: Call, session: Session) -> Ended {
        if let Some(kind) = call.kind()
            && kind != self.kind
        {
            let (is, wants) = (self.kind, call.function());
            let message = format!("{wants}() is a {kind}'s; this plugin is a {is}");
            let fault = Fault::new(FaultClass::Load, message);
            return session.end(Err(fault.into()), Usage::default());
        }
        let (result, running) = self.run(call, Box::new(Running::new(session)));
        let usage = running.pace.usage();
        running.session.end(result, usage)
    }
}

fn build(file: &str, source: &str, kind: Kind) -> Result<Script, Fault> {
    let mut engine = engine::build(Some(kind));
    let ast = lint::compile(&mut engine, file, source, kind)?;
    Ok(Script {
        kind,
        blame: Blame::new(file, &ast),
        engine,
        tracing: OnceLock::new(),
        ast,
        described: Mutex::new(None),
    })
}
