//! What went wrong, where, and who called it: Rhai's errors as an author reads
//! them.
//!
//! When a limit ends a call, Rhai forgets where it was: the error carries the
//! place of the outermost call, that is nothing. Calls are pure, so such a call
//! is run once more by an engine that notes where it is (which costs half as
//! much again, too much for every call), and for a limit of time the loop
//! around that place is blamed.

use contract::{Failure, Fault, FaultClass, Place};
use rhai::{AST, ASTNode, Engine, EvalAltResult, Expr, Position, Stmt};

use crate::lint::{meant, signatures};
use crate::prelude::{Thrown, line_and_column};
use crate::running::Running;

/// Whether an error does not say where it was, or who called: a limit's.
pub(crate) fn is_vague(error: &EvalAltResult, running: &Running) -> bool {
    match &running.fault {
        Some(ending) => ending
            .at
            .is_none_or(|(at, level)| at.is_none() || level > 1),
        None => error.is_system_exception(),
    }
}

/// Whether two faults are of one sort: what is slow runs out of either time.
pub(crate) fn is_the_same(a: FaultClass, b: FaultClass) -> bool {
    let is_time = |class| matches!(class, FaultClass::Cpu | FaultClass::Time);
    a == b || is_time(a) && is_time(b)
}

/// What is known of a script's source.
pub(crate) struct Blame {
    file: String,
    functions: Vec<Function>,
}

struct Function {
    name: String,
    start: (u32, u32),
    end: (u32, u32),
}

impl Blame {
    pub(crate) fn new(file: &str, ast: &AST) -> Blame {
        let functions = ast.iter_fn_def().filter_map(|function| {
            Some(Function {
                name: function.name.to_string(),
                start: line_and_column(function.body.start_position())?,
                end: line_and_column(function.body.end_position())?,
            })
        });
        Blame {
            file: file.to_owned(),
            functions: functions.collect(),
        }
    }

    fn place(&self, at: Position) -> Option<Place> {
        let (line, column) = line_and_column(at)?;
        Some(Place {
            file: self.file.clone(),
            line,
            column,
        })
    }

    /// The function around a place: the innermost, as closures stand in others.
    fn around(&self, at: Position) -> String {
        let Some(at) = line_and_column(at) else {
            return "a function".to_owned();
        };
        let around = self
            .functions
            .iter()
            .filter(|f| f.start <= at && at <= f.end);
        let name = around
            .max_by_key(|function| function.start)
            .map(|function| &function.name);
        readable(name.map_or("", String::as_str))
    }

    fn called(&self, name: &str, at: Position) -> String {
        match self.place(at) {
            Some(place) => format!("{name} at {place}"),
            None => name.to_owned(),
        }
    }

    /// A fault of what a function returned has the function for its place.
    pub(crate) fn in_function(&self, mut fault: Fault, function: &str) -> Fault {
        let found = self.functions.iter().find(|known| known.name == function);
        if let (None, Some(found)) = (&fault.place, found) {
            fault.place = Some(Place {
                file: self.file.clone(),
                line: found.start.0,
                column: found.start.1,
            });
        }
        fault
    }

    /// Why a call came to nothing.
    pub(crate) fn failure(
        &self,
        error: EvalAltResult,
        running: &Running,
        engine: &Engine,
        ast: &AST,
    ) -> Failure {
        if let Some(ending) = &running.fault {
            let fault = ending.fault.clone();
            return self.ended(fault, ending.at, running, ast).into();
        }
        let mut trace = Vec::new();
        let mut error = error;
        while let EvalAltResult::ErrorInFunctionCall(name, _, inner, at) = error {
            trace.push(self.called(&readable(&name), at));
            error = *inner;
        }
        trace.reverse();
        if let EvalAltResult::ErrorRuntime(value, _) = &error
            && let Some(Thrown::Said(said)) = value.read_lock::<Thrown>().as_deref()
        {
            return said.clone().into();
        }
        if error.is_system_exception() {
            return self.ended(limit(&error), None, running, ast).into();
        }
        let at = error.position();
        let mut fault = self.mistake(error, engine);
        fault.place = self.place(at);
        fault.trace = trace;
        fault.into()
    }

    /// A fault that no script can catch.
    fn ended(
        &self,
        mut fault: Fault,
        at: Option<(Position, usize)>,
        running: &Running,
        ast: &AST,
    ) -> Fault {
        let level = at.map_or(running.trail.level(), |(_, level)| level);
        let mut places: Vec<Position> = running.trail.from(level).collect();
        match (at, places.first_mut()) {
            (Some((at, _)), Some(place)) if !at.is_none() => *place = at,
            (Some((at, _)), None) if !at.is_none() => places.push(at),
            _ => (),
        }
        if matches!(fault.class, FaultClass::Cpu | FaultClass::Time)
            && let Some((depth, at)) = blamed_loop(ast, &places)
        {
            let was = places[0];
            places.drain(..depth);
            places[0] = at;
            if let (Some(place), true) = (self.place(was), was != at) {
                let hint = format!("this loop does not end soon enough; it was at {place} last");
                fault.hint.get_or_insert(hint);
            } else {
                fault
                    .hint
                    .get_or_insert("this loop does not end soon enough".to_owned());
            }
        }
        fault.place = places.first().and_then(|at| self.place(*at));
        let calls = places.windows(2);
        fault.trace = calls
            .map(|pair| self.called(&self.around(pair[0]), pair[1]))
            .collect();
        shorten(&mut fault.trace);
        fault
    }

    /// A mistake of the script's, in its author's words.
    fn mistake(&self, mut error: EvalAltResult, engine: &Engine) -> Fault {
        let trap = |message: String| Fault::new(FaultClass::Trap, message);
        match &error {
            EvalAltResult::ErrorRuntime(value, _) => {
                let thrown = value.read_lock::<Thrown>();
                match thrown.as_deref() {
                    Some(Thrown::Mistake { message, hint }) if hint.is_empty() => {
                        trap(message.clone())
                    }
                    Some(Thrown::Mistake { message, hint }) => {
                        trap(message.clone()).with_hint(hint.clone())
                    }
                    Some(Thrown::Said(error)) => trap(error.text().to_owned()),
                    None => trap(format!("it threw {}", shown(value))),
                }
            }
            EvalAltResult::ErrorFunctionNotFound(signature, _) => not_found(signature),
            EvalAltResult::ErrorPropertyNotFound(..) | EvalAltResult::ErrorDotExpr(..) => {
                let _ = error.take_position();
                property(&error.to_string(), engine)
            }
            _ => {
                let _ = error.take_position();
                trap(types_renamed(&error.to_string()))
            }
        }
    }
}

/// A value in a message: as much of it as one reads.
fn shown(value: &rhai::Dynamic) -> String {
    const LETTERS: usize = 400;
    let text = value.to_string();
    let cut: String = text.chars().take(LETTERS).collect();
    let dots = if cut.len() < text.len() { "..." } else { "" };
    if value.is_string() {
        format!("{cut:?}{dots}")
    } else {
        cut + dots
    }
}

fn readable(name: &str) -> String {
    match name {
        "" => "a function".to_owned(),
        name if name.starts_with("anon$") => "a closure".to_owned(),
        name => format!("{name}()"),
    }
}

/// Endless recursion is readable without its middle.
fn shorten(trace: &mut Vec<String>) {
    const ENDS: usize = 4;
    if trace.len() > 2 * ENDS {
        let middle = trace.len() - 2 * ENDS;
        trace.splice(ENDS..ENDS + middle, [format!("... {middle} more ...")]);
    }
}

/// Which limit of the engine's ended the call.
fn limit(error: &EvalAltResult) -> Fault {
    let fault = |class, message: &str| Fault::new(class, message.to_owned());
    match error {
        EvalAltResult::ErrorStackOverflow(_) => {
            let levels = crate::engine::CALL_LEVELS;
            let message = format!("functions call each other more than {levels} levels deep");
            Fault::new(FaultClass::Stack, message)
        }
        EvalAltResult::ErrorDataTooLarge(what, _) => too_large(what),
        EvalAltResult::ErrorTooManyVariables(_) => {
            fault(FaultClass::Memory, "a function has too many variables")
        }
        EvalAltResult::ErrorTooManyOperations(_) => {
            fault(FaultClass::Cpu, "it took too many operations")
        }
        other => Fault::new(FaultClass::Trap, other.to_string()),
    }
}

fn too_large(what: &str) -> Fault {
    use crate::engine::{ARRAY_SIZE, MAP_SIZE, TEXT_BYTES};
    let what = what.to_lowercase();
    let message = if what.contains("string") {
        format!("a value has more than {TEXT_BYTES} bytes of text")
    } else if what.contains("map") {
        format!("a map has more than {MAP_SIZE} entries")
    } else {
        format!("an array has more than {ARRAY_SIZE} elements")
    };
    Fault::new(FaultClass::Memory, message)
        .with_hint("hand over what you find with emit and the like, one by one")
}

fn not_found(signature: &str) -> Fault {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ")"));
    let types = types_renamed(types.strip_suffix(')').unwrap_or(types));
    let is_word = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
    if !is_word {
        let message = format!("`{name}` does not work on ({types})");
        let hint = if types.contains("nothing") {
            "nothing, (), is what was not there: ask with has, or write `value ?? 0`"
        } else {
            "make both sides the same: parse_int, parse_float, to_string"
        };
        return Fault::new(FaultClass::Trap, message).with_hint(hint);
    }
    let fault = Fault::new(
        FaultClass::Trap,
        format!("no function `{name}` takes ({types})"),
    );
    let signatures = signatures(name);
    if signatures.is_empty() {
        return fault;
    }
    fault.with_hint(format!("there is {}", signatures.join(", ")))
}

/// Rust's names of types as authors know them.
fn types_renamed(text: &str) -> String {
    let names = [
        ("&str | ImmutableString | String", "text"),
        ("ImmutableString", "text"),
        ("string", "text"),
        ("i64", "integer"),
        ("f64", "float"),
        ("()", "nothing"),
    ];
    names
        .iter()
        .fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// `Unknown property 'indx' - a getter is not registered for type 'Row'`
fn property(text: &str, engine: &Engine) -> Fault {
    let quoted: Vec<&str> = text.split('\'').skip(1).step_by(2).collect();
    let &[name, owner] = quoted.as_slice() else {
        return Fault::new(FaultClass::Trap, types_renamed(text));
    };
    let message = format!("{} has no property `{name}`", types_renamed(owner));
    let fault = Fault::new(FaultClass::Trap, message);
    let known = crate::prelude::known(engine);
    let getters = known.keys().filter_map(|name| name.strip_prefix("get$"));
    match meant(name, getters) {
        Some(near) => fault.with_hint(format!("did you mean `{near}`?")),
        None => fault,
    }
}

/// The loop to blame when time is over: the outermost of those that by their
/// condition never end; else the innermost `while`, since a `for` comes to an
/// end; else the innermost `for`. Returns how many calls out it stands as well.
fn blamed_loop(ast: &AST, places: &[Position]) -> Option<(usize, Position)> {
    let around = |(depth, at): (usize, &Position)| {
        let loops = loops_around(ast, *at).into_iter().rev();
        loops.map(move |(at, ending)| (depth, at, ending))
    };
    // from the inside out
    let loops: Vec<(usize, Position, Loop)> = places.iter().enumerate().flat_map(around).collect();
    let never = loops
        .iter()
        .rev()
        .find(|(.., ending)| *ending == Loop::Never);
    let perhaps = || loops.iter().find(|(.., ending)| *ending == Loop::Perhaps);
    let blamed = never.or_else(perhaps).or_else(|| loops.first());
    blamed.map(|(depth, at, _)| (*depth, *at))
}

/// Whether a loop ends.
#[derive(Clone, Copy, PartialEq)]
enum Loop {
    Never,
    Perhaps,
    Surely,
}

/// The loops around a place, from the outside in.
fn loops_around(ast: &AST, at: Position) -> Vec<(Position, Loop)> {
    let mut longest = Vec::new();
    let mut depth = 0;
    ast.walk(&mut |path| {
        let here = path.last().is_some_and(|node| node.position() == at);
        if here && path.len() > depth {
            depth = path.len();
            longest = path.iter().filter_map(as_loop).collect();
        }
        true
    });
    longest
}

fn as_loop(node: &ASTNode) -> Option<(Position, Loop)> {
    let guarded = |guard: &Expr| match guard {
        Expr::Unit(_) | Expr::BoolConstant(true, _) => Loop::Never,
        _ => Loop::Perhaps,
    };
    match node {
        ASTNode::Stmt(Stmt::While(flow, at) | Stmt::Do(flow, _, at)) => {
            Some((*at, guarded(&flow.expr)))
        }
        ASTNode::Stmt(Stmt::For(_, at)) => Some((*at, Loop::Surely)),
        _ => None,
    }
}
