//! The engine: Rhai with the prelude of one kind of plugin, and its limits.

use contract::Kind;
use rhai::debugger::{DebuggerCommand, DebuggerEvent};
use rhai::packages::{
    ArithmeticPackage, BasicArrayPackage, BasicBlobPackage, BasicFnPackage, BasicIteratorPackage,
    BasicMapPackage, BasicMathPackage, BasicStringPackage, BitFieldPackage, LogicPackage,
    MoreStringPackage, Package,
};
use rhai::{Dynamic, Engine, OptimizationLevel};

use crate::{prelude, running};

/// Bytes of all texts in one value.
pub(crate) const TEXT_BYTES: usize = 1 << 20;
/// Elements of an array, those of arrays in it included.
pub(crate) const ARRAY_SIZE: usize = 10_000;
/// Entries of a map, those of maps in it included.
pub(crate) const MAP_SIZE: usize = 10_000;
/// Functions that call each other.
pub(crate) const CALL_LEVELS: usize = 48;
/// Expressions within each other, at the top and in a function.
const EXPRESSION_DEPTHS: (usize, usize) = (64, 48);
/// Variables of a function.
const VARIABLES: usize = 200;
/// Functions of a script.
const FUNCTIONS: usize = 500;

/// Words of Rhai that do not exist for plugins.
pub(crate) const DISABLED: [&str; 3] = ["eval", "import", "export"];

/// An engine for one kind of plugin; for none, with the whole prelude.
pub(crate) fn build(kind: Option<Kind>) -> Engine {
    let mut engine = Engine::new_raw();
    packages(&mut engine);
    limits(&mut engine);
    engine.set_optimization_level(OptimizationLevel::Simple);
    engine.on_print(|text| prelude::printed(contract::LogLevel::Info, text));
    engine.on_debug(|text, _, _| prelude::printed(contract::LogLevel::Debug, text));
    prelude::register(&mut engine, kind);
    engine
}

/// Rhai's own packages, without those that sleep or read a clock.
fn packages(engine: &mut Engine) {
    ArithmeticPackage::new().register_into_engine(engine);
    BasicStringPackage::new().register_into_engine(engine);
    BasicIteratorPackage::new().register_into_engine(engine);
    BasicFnPackage::new().register_into_engine(engine);
    BitFieldPackage::new().register_into_engine(engine);
    LogicPackage::new().register_into_engine(engine);
    BasicMathPackage::new().register_into_engine(engine);
    BasicArrayPackage::new().register_into_engine(engine);
    BasicBlobPackage::new().register_into_engine(engine);
    BasicMapPackage::new().register_into_engine(engine);
    MoreStringPackage::new().register_into_engine(engine);
}

fn limits(engine: &mut Engine) {
    engine.set_max_string_size(TEXT_BYTES);
    engine.set_max_array_size(ARRAY_SIZE);
    engine.set_max_map_size(MAP_SIZE);
    engine.set_max_call_levels(CALL_LEVELS);
    engine.set_max_expr_depths(EXPRESSION_DEPTHS.0, EXPRESSION_DEPTHS.1);
    engine.set_max_variables(VARIABLES);
    engine.set_max_functions(FUNCTIONS);
    engine.set_max_modules(0);
    for word in DISABLED {
        engine.disable_symbol(word);
    }
    engine.on_progress(|operations| running::is_over(operations).then_some(Dynamic::UNIT));
}

/// An engine that notes where each call is, for calls that a limit ended: it
/// takes half as long again, so that calls do without.
pub(crate) fn tracing(kind: Kind) -> Engine {
    let mut engine = build(Some(kind));
    trail(&mut engine);
    engine
}

#[expect(deprecated, reason = "volatile, it says; the version is pinned")]
fn trail(engine: &mut Engine) {
    engine.register_debugger(
        |_, debugger| debugger,
        |context, event, _, _, at| {
            match event {
                // what stands on the way out is not where it went wrong
                DebuggerEvent::FunctionExitWithError(_) | DebuggerEvent::End => (),
                DebuggerEvent::FunctionExitWithValue(_) => running::left(context.call_level()),
                _ => running::step(context.call_level(), at),
            }
            Ok(DebuggerCommand::StepInto)
        },
    );
}
