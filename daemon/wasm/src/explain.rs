//! From what the engine says when a call ends badly to a fault that the
//! plugin's author understands.

use contract::{Fault, FaultClass, Limits, Place};
use wasmtime::{Error, FrameInfo, FrameSymbol, PoolConcurrencyLimitError, Trap, WasmBacktrace};

/// Frames that a trace shows: as many as the engine collects.
pub(crate) const FRAMES: usize = 20;
/// Bytes of a guest's own words in a message.
const WORDS: usize = 1_000;

/// An error and its causes on one line.
pub(crate) fn chain(error: &Error) -> String {
    let causes: Vec<String> = error.chain().map(ToString::to_string).collect();
    causes.join(": ")
}

/// Why a call ended. `said` is what the guest logged last as an error: its
/// panic hook does so.
pub(crate) fn fault(error: &Error, limits: &Limits, said: Option<&str>) -> Fault {
    let mut fault = what(error, limits, said);
    if let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() {
        where_it_was(&mut fault, backtrace.frames());
    }
    fault
}

fn what(error: &Error, limits: &Limits, said: Option<&str>) -> Fault {
    if let Some(fault) = error.downcast_ref::<Fault>() {
        return fault.clone();
    }
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let frames = error.downcast_ref::<WasmBacktrace>();
        let frames = frames.map_or(&[][..], WasmBacktrace::frames);
        return if *trap == Trap::StackOverflow || ran_out_of_its_stack(*trap, frames) {
            stack_is_full()
        } else {
            trapped(*trap, said)
        };
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Fault::new(FaultClass::Busy, "too many components run at once");
    }
    let text = error.root_cause().to_string();
    if text.contains("fuel allocated for hostcalls") {
        let limit = limits.output;
        let message = format!("it handed more than {limit} bytes to the host");
        return Fault::new(FaultClass::ResultSize, message)
            .with_hint("return what is measured, not what was read");
    }
    let message = format!("what it handed to the host cannot be read: {text}");
    Fault::new(FaultClass::BadResult, message)
}

fn stack_is_full() -> Fault {
    Fault::new(
        FaultClass::Stack,
        "it called itself until its stack was full",
    )
    .with_hint("an endless recursion, or one that needs a loop instead")
}

/// A guest has a stack of its own in its memory, at the low end; below it is
/// nothing. A recursion shows in the same functions again and again.
fn ran_out_of_its_stack(trap: Trap, frames: &[FrameInfo]) -> bool {
    let mut functions: Vec<u32> = frames.iter().map(FrameInfo::func_index).collect();
    functions.sort_unstable();
    functions.dedup();
    trap == Trap::MemoryOutOfBounds && frames.len() >= FRAMES && functions.len() <= FRAMES / 2
}

fn trapped(trap: Trap, said: Option<&str>) -> Fault {
    if let Some(panic) = said.and_then(Panic::read) {
        let mut fault = Fault::new(FaultClass::Trap, format!("it panicked: {}", panic.text));
        fault.place = panic.place;
        return fault;
    }
    let mut message = format!("it trapped: {trap}");
    if let Some(said) = said {
        message.push_str("; the last it said: ");
        message.push_str(cut(said));
    }
    Fault::new(FaultClass::Trap, message)
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(WORDS)]
}

/// What a panic hook of Rust says: `panicked at src/lib.rs:7:9:` and a line
/// with the text.
struct Panic<'a> {
    text: &'a str,
    place: Option<Place>,
}

impl Panic<'_> {
    fn read(said: &str) -> Option<Panic<'_>> {
        let (place, text) = said.split_once("panicked at ")?.1.split_once('\n')?;
        let mut parts = place.trim_end_matches(':').rsplitn(3, ':');
        let mut number = || parts.next()?.parse().ok();
        let (column, line) = (number(), number());
        let place = parts
            .next()
            .filter(|file| is_the_authors(file))
            .zip(line.zip(column))
            .map(|(file, (line, column))| Place {
                file: as_known(file),
                line,
                column,
            });
        Some(Panic {
            text: cut(text.trim()),
            place,
        })
    }
}

/// Whether a source file is the author's own, not a library's.
fn is_the_authors(file: &str) -> bool {
    ![
        "/rustc/",
        "/library/",
        "/registry/src/",
        "/sdk/rust/src/",
        "sotp-plugin/src/",
        "/rust/deps/",
    ]
    .iter()
    .any(|library| file.contains(library))
        && !file.starts_with("library/")
}

/// A file as its author knows it, not as the machine that built it.
fn as_known(file: &str) -> String {
    match file.rfind("/src/") {
        Some(root) => file[root + 1..].to_owned(),
        None => file.to_owned(),
    }
}

fn place_of(symbol: &FrameSymbol) -> Option<Place> {
    let file = symbol.file().filter(|file| is_the_authors(file))?;
    Some(Place {
        file: as_known(file),
        line: symbol.line()?,
        column: symbol.column().unwrap_or(0),
    })
}

/// Whether a function is the author's own, as far as its name tells.
fn is_own_function(name: &str) -> bool {
    const OTHERS: [&str; 11] = [
        "core::", "std::", "alloc::", "<core::", "<std::", "<alloc::", "dlmalloc", "__rust",
        "rust_", "cabi_", "_R",
    ];
    let is_others = OTHERS.iter().any(|other| name.starts_with(other));
    // the last two are what the bindings put around an export
    !is_others && !name.contains('#') && !name.ends_with("_cabi")
}

/// A function's name as its author wrote it.
fn readable(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}

fn where_it_was(fault: &mut Fault, frames: &[FrameInfo]) {
    let mut trace: Vec<String> = Vec::new();
    let mut first = None;
    for frame in frames {
        let mut told = false;
        for symbol in frame.symbols() {
            let Some(place) = place_of(symbol) else {
                continue;
            };
            let name = symbol
                .name()
                .map_or_else(|| "a function".to_owned(), readable);
            trace.push(format!("{name}() at {place}"));
            first.get_or_insert(place);
            told = true;
        }
        let name = frame.func_name().map(readable);
        if let Some(name) = name.filter(|name| !told && is_own_function(name)) {
            trace.push(format!("{name}()"));
        }
    }
    trace.dedup();
    trace.truncate(FRAMES);
    if fault.trace.is_empty() {
        fault.trace = trace;
    }
    if fault.place.is_none() {
        fault.place = first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_panic_hook_says_is_read() {
        let panic =
            Panic::read("panicked at /home/me/acme/src/lib.rs:7:9:\nno such row\n").unwrap();
        assert_eq!(panic.text, "no such row");
        let place = panic.place.unwrap();
        assert_eq!(place.to_string(), "src/lib.rs:7:9");
    }

    #[test]
    fn a_place_in_a_library_is_not_the_authors() {
        let said = "panicked at /rustc/abc/library/core/src/option.rs:1:2:\nboom";
        let panic = Panic::read(said).unwrap();
        assert_eq!((panic.text, panic.place), ("boom", None));
    }

    #[test]
    fn words_that_are_no_panic_are_not_taken_for_one() {
        assert!(Panic::read("no answer").is_none());
        assert!(Panic::read("it panicked at noon").is_none());
        let fault = trapped(Trap::UnreachableCodeReached, Some("no answer"));
        assert!(
            fault.message.ends_with("the last it said: no answer"),
            "{fault}"
        );
    }

    #[test]
    fn long_words_are_cut_between_letters() {
        let words = "ü".repeat(WORDS);
        assert_eq!(cut(&words).len(), WORDS);
    }
}
