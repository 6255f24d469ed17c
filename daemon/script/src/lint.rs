//! Compiling, and what is found without running: a misspelt function is seen
//! when a plugin is installed, not at night when its branch is first taken.

use std::collections::{BTreeMap, BTreeSet};

use contract::limits::SCRIPT_BYTES;
use contract::{Fault, FaultClass, Kind, Place};
use rhai::{
    AST, ASTFlags, ASTNode, Engine, Expr, FnCallExpr, OptimizationLevel, ParseErrorType, Position,
    Scope, Stmt,
};

use crate::{engine, prelude};

/// What a plugin of a kind has to define: name, parameters, and whether it may
/// be left out.
const FUNCTIONS: [(Kind, &str, &[&str], bool); 10] = [
    (Kind::Parser, "describe", &[], true),
    (Kind::Parser, "parse", &["input"], true),
    (Kind::Rule, "describe", &[], true),
    (Kind::Rule, "evaluate", &["input"], true),
    (Kind::Remediation, "decide", &["incident", "history"], true),
    (Kind::Notifier, "render", &["notification"], true),
    (
        Kind::Notifier,
        "interpret",
        &["notification", "response"],
        false,
    ),
    (Kind::Poller, "describe", &[], true),
    (Kind::Poller, "start", &["device"], true),
    (
        Kind::Poller,
        "resume",
        &["device", "round", "answers"],
        true,
    ),
];

/// Words of Rhai that look like functions and are none.
const WORDS: [&str; 9] = [
    "type_of",
    "is_def_var",
    "is_def_fn",
    "is_shared",
    "Fn",
    "call",
    "curry",
    "print",
    "debug",
];

/// Operations that the constants of a script may take.
const CONSTANT_OPERATIONS: u64 = 10_000;

/// Whether a plugin of `kind` must define `function`.
pub(crate) fn is_needed(kind: Kind, function: &str) -> bool {
    FUNCTIONS
        .iter()
        .any(|(of, name, _, needed)| *of == kind && *name == function && *needed)
}

/// Compiles a script with the engine that will run it.
pub(crate) fn compile(
    engine: &mut Engine,
    file: &str,
    source: &str,
    kind: Kind,
) -> Result<AST, Fault> {
    if source.len() > SCRIPT_BYTES {
        let (is, limit) = (source.len(), SCRIPT_BYTES);
        let message = format!("the script has {is} bytes: at most {limit} are allowed");
        return Err(Fault::new(FaultClass::Load, message));
    }
    let lint = Lint { file, kind };
    // as it is written, with nothing folded away, for looking at it
    engine.set_optimization_level(OptimizationLevel::None);
    let written = engine
        .compile(source)
        .map_err(|error| lint.syntax(error.err_type(), error.position(), &BTreeSet::new()))?;
    lint.top_level(&written)?;
    lint.calls(engine, &written)?;
    lint.functions(&written)?;
    let constants = lint.constants(engine, &written)?;
    // with the constants where they are used: functions see no variables of the script's
    engine.set_optimization_level(OptimizationLevel::Simple);
    engine.set_strict_variables(true);
    engine
        .compile_with_scope(&constants, source)
        .map_err(|error| lint.syntax(error.err_type(), error.position(), &variables(&written)))
}

struct Lint<'a> {
    file: &'a str,
    kind: Kind,
}

impl Lint<'_> {
    fn fault(&self, message: impl Into<String>, at: Position) -> Fault {
        let mut fault = Fault::new(FaultClass::Load, message);
        fault.place = prelude::line_and_column(at).map(|(line, column)| Place {
            file: self.file.to_owned(),
            line,
            column,
        });
        fault
    }

    fn syntax(&self, error: &ParseErrorType, at: Position, known: &BTreeSet<String>) -> Fault {
        match error {
            ParseErrorType::VariableUndefined(name) => {
                let fault = self.fault(format!("there is no variable `{name}`"), at);
                match meant(name, known.iter().map(String::as_str)) {
                    Some(near) => fault.with_hint(format!("did you mean `{near}`?")),
                    None => fault.with_hint(
                        "a function sees its parameters, its own variables and the script's constants",
                    ),
                }
            }
            error => {
                let text = error.to_string();
                let disabled = engine::DISABLED
                    .iter()
                    .find(|word| text.contains(&format!("'{word}'")));
                let fault = self.fault(decapitalized(&text), at);
                match disabled {
                    Some(word) => fault.with_hint(format!(
                        "a plugin is one file and runs nothing that it reads: it has no `{word}`"
                    )),
                    None => fault,
                }
            }
        }
    }

    /// Outside of functions stand constants only: whatever else stood there
    /// would run at no time that an author expects.
    fn top_level(&self, ast: &AST) -> Result<(), Fault> {
        for statement in ast.statements() {
            let is_constant = match statement {
                Stmt::Noop(..) => true,
                Stmt::Var(_, flags, _) => flags.intersects(ASTFlags::CONSTANT),
                _ => false,
            };
            if !is_constant {
                let message = "only constants and functions stand outside of functions";
                let hint = match statement {
                    Stmt::Var(..) => "write `const`; what changes is kept with kv_set or set_state",
                    _ => "put it into a function",
                };
                return Err(self.fault(message, statement.position()).with_hint(hint));
            }
        }
        Ok(())
    }

    fn functions(&self, ast: &AST) -> Result<(), Fault> {
        for (_, name, parameters, needed) in FUNCTIONS.iter().filter(|f| f.0 == self.kind) {
            let wanted = format!("fn {name}({})", parameters.join(", "));
            let hint = format!("a {} defines `{wanted} {{ ... }}`", self.kind);
            let same: Vec<usize> = ast
                .iter_functions()
                .filter(|function| function.name == *name)
                .map(|function| function.params.len())
                .collect();
            if same.contains(&parameters.len()) {
                continue;
            }
            if let Some(has) = same.first() {
                let message = format!(
                    "`{name}` has {has} parameters and needs {}: {wanted}",
                    parameters.len()
                );
                return Err(self.fault(message, Position::new(1, 1)).with_hint(hint));
            }
            if *needed {
                let message = format!("the function `{name}` is missing");
                return Err(self.fault(message, Position::new(1, 1)).with_hint(hint));
            }
        }
        Ok(())
    }

    /// Whether each call is of something that there is.
    fn calls(&self, engine: &Engine, ast: &AST) -> Result<(), Fault> {
        let mut known = prelude::known(engine);
        for function in ast.iter_functions() {
            known
                .entry(function.name.to_owned())
                .or_default()
                .push(function.params.len());
        }
        let properties = properties(ast);
        let mut wrong = None;
        ast.walk(&mut |path| {
            let found = match path.last() {
                Some(
                    ASTNode::Expr(Expr::FnCall(call, at)) | ASTNode::Stmt(Stmt::FnCall(call, at)),
                ) => self.call(call, *at, call.args.len(), &known),
                Some(ASTNode::Expr(Expr::MethodCall(call, at)))
                    if !properties.contains(call.name.as_str()) =>
                {
                    let own = known.get(call.name.as_str());
                    let is_own = own.is_some_and(|counts| counts.contains(&call.args.len()));
                    if is_own && is_defined(ast, &call.name) {
                        None
                    } else {
                        self.call(call, *at, call.args.len() + 1, &known)
                    }
                }
                _ => None,
            };
            // the first in the source, however the tree is walked
            if let Some(found) = found {
                let place = |fault: &Fault| fault.place.as_ref().map(|at| (at.line, at.column));
                if wrong
                    .as_ref()
                    .is_none_or(|wrong| place(&found) < place(wrong))
                {
                    wrong = Some(found);
                }
            }
            true
        });
        wrong.map_or(Ok(()), Err)
    }

    fn call(
        &self,
        call: &FnCallExpr,
        at: Position,
        arguments: usize,
        known: &BTreeMap<String, Vec<usize>>,
    ) -> Option<Fault> {
        let name = call.name.as_str();
        let is_word = name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if !is_word || call.is_qualified() || WORDS.contains(&name) || name.contains('$') {
            return None;
        }
        let Some(counts) = known.get(name) else {
            let fault = self.fault(format!("there is no function `{name}`"), at);
            return Some(fault.with_hint(self.instead(name, known)));
        };
        if counts.contains(&arguments) {
            return None;
        }
        let signatures = signatures(name);
        let message = format!("no function `{name}` takes {}", amount(call.args.len()));
        let fault = self.fault(message, at);
        Some(match signatures.is_empty() {
            true => {
                let counts: Vec<String> = counts.iter().map(usize::to_string).collect();
                fault.with_hint(format!("it takes {}", counts.join(" or ")))
            }
            false => fault.with_hint(format!("there is {}", signatures.join(", "))),
        })
    }

    fn instead(&self, name: &str, known: &BTreeMap<String, Vec<usize>>) -> String {
        for (kinds, signature) in documented() {
            if prelude::name_in(signature) == name && !kinds.contains(&self.kind) {
                let kinds: Vec<&str> = kinds.iter().map(|kind| kind.word()).collect();
                return format!(
                    "`{signature}` is for a {}; this is a {}",
                    kinds.join(" or a "),
                    self.kind
                );
            }
        }
        match meant(name, known.keys().map(String::as_str)) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "sdk/rhai/REFERENCE.md lists what there is".to_owned(),
        }
    }

    /// The script's constants, worked out once.
    fn constants(&self, engine: &mut Engine, ast: &AST) -> Result<Scope<'static>, Fault> {
        let mut scope = Scope::new();
        engine.set_max_operations(CONSTANT_OPERATIONS);
        let result = engine.run_ast_with_scope(&mut scope, ast);
        engine.set_max_operations(0);
        match result {
            Ok(()) => Ok(scope),
            Err(mut error) => {
                let at = error.take_position();
                let message = format!("a constant cannot be worked out: {error}");
                Err(self.fault(message, at))
            }
        }
    }
}

fn is_defined(ast: &AST, name: &str) -> bool {
    ast.iter_functions().any(|function| function.name == name)
}

fn amount(arguments: usize) -> String {
    match arguments {
        0 => "no arguments".to_owned(),
        1 => "1 argument".to_owned(),
        n => format!("{n} arguments"),
    }
}

fn decapitalized(text: &str) -> String {
    let mut letters = text.chars();
    match (letters.next(), letters.clone().next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Names that may hold functions of the script's own: entries of maps.
fn properties(ast: &AST) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Expr(Expr::Map(entries, _))) => {
                names.extend(entries.0.iter().map(|(name, _)| name.name.to_string()));
            }
            Some(ASTNode::Expr(Expr::Property(property, _))) => {
                names.insert(property.2.to_string());
            }
            _ => (),
        }
        true
    });
    names
}

/// The names of all variables of a script.
fn variables(ast: &AST) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for function in ast.iter_functions() {
        names.extend(function.params.iter().map(|name| (*name).to_owned()));
    }
    ast.walk(&mut |path| {
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Var(variable, ..))) => {
                names.insert(variable.0.name.to_string());
            }
            Some(ASTNode::Stmt(Stmt::For(each, _))) => {
                names.insert(each.0.name.to_string());
            }
            _ => (),
        }
        true
    });
    names
}

/// Every signature of the prelude, and for which kinds it is.
pub(crate) fn documented() -> Vec<(Vec<Kind>, &'static str)> {
    let sections = prelude::register(&mut Engine::new_raw(), None);
    let each = |section: prelude::Section| {
        let kinds = match section.kinds {
            [] => Kind::ALL.to_vec(),
            kinds => kinds.to_vec(),
        };
        let signatures = section.entries.into_iter();
        signatures.map(move |(signature, _)| (kinds.clone(), signature))
    };
    sections.into_iter().flat_map(each).collect()
}

/// The signatures of what is called `name`.
pub(crate) fn signatures(name: &str) -> Vec<String> {
    let named = documented().into_iter();
    let named = named.filter(|(_, signature)| prelude::name_in(signature) == name);
    named
        .map(|(_, signature)| format!("`{signature}`"))
        .collect()
}

/// Which of `names` was probably meant by `name`.
pub(crate) fn meant<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let most = (name.chars().count() / 3).clamp(1, 4);
    let is_word = |near: &&str| near.starts_with(|c: char| c.is_alphabetic() || c == '_');
    names
        .filter(is_word)
        .map(|near| (distance(name, near), near))
        .filter(|(distance, near)| *distance <= most && *distance < near.chars().count())
        .min()
        .map(|(_, near)| near)
}

/// How many letters to add, drop, change or swap to make `b` of `a`.
fn distance(a: &str, b: &str) -> usize {
    /// Longer names are not compared.
    const LONGEST: usize = 64;
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len() > LONGEST || b.len() > LONGEST {
        return usize::MAX;
    }
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                let before: &Vec<usize> = &before_last;
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_is_the_nearest_name_and_nothing_far() {
        let names = ["gauge", "counter64", "emit", "words"];
        let near = |name| meant(name, names.into_iter());
        assert_eq!(near("guage"), Some("gauge"));
        assert_eq!(near("conter64"), Some("counter64"));
        assert_eq!(near("emitt"), Some("emit"));
        assert_eq!(near("histogram"), None);
        assert_eq!(near(""), None);
    }

    #[test]
    fn two_letters_that_changed_places_are_one_mistake() {
        assert_eq!(distance("guage", "gauge"), 1);
        assert_eq!(distance("abc", "abc"), 0);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abcd", "acbd"), 1);
    }
}
