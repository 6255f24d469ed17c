//! Log lines. They stand in the daemon's journal and in `sotp plugin log`, with
//! the plugin's name. A call has room for 100 lines; more end it.

use crate::Level;

/// Logs a line with named values.
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    let owned: Vec<crate::Attr> = fields
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    #[cfg(target_arch = "wasm32")]
    crate::contract::log::log(level, message, &owned);
    #[cfg(not(target_arch = "wasm32"))]
    crate::testing::with(|host| host.log.push((level, message.to_owned(), owned)));
}

/// Whether anybody would see a line of this level.
#[doc(hidden)]
pub fn enabled(level: Level) -> bool {
    #[cfg(target_arch = "wasm32")]
    return crate::contract::log::enabled(level);
    #[cfg(not(target_arch = "wasm32"))]
    return crate::testing::with(|host| host.level <= level);
}

#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident, $($text:tt)+) => {
        if $crate::__private::enabled($crate::Level::$level) {
            $crate::log($crate::Level::$level, &::std::format!($($text)+), &[]);
        }
    };
}

/// Logs at level trace, as `format!` does.
#[macro_export]
macro_rules! trace { ($($text:tt)+) => { $crate::__log!(Trace, $($text)+) }; }
/// Logs at level debug, as `format!` does.
#[macro_export]
macro_rules! debug { ($($text:tt)+) => { $crate::__log!(Debug, $($text)+) }; }
/// Logs at level info, as `format!` does.
#[macro_export]
macro_rules! info { ($($text:tt)+) => { $crate::__log!(Info, $($text)+) }; }
/// Logs at level warn, as `format!` does.
#[macro_export]
macro_rules! warn { ($($text:tt)+) => { $crate::__log!(Warn, $($text)+) }; }
/// Logs at level error, as `format!` does.
#[macro_export]
macro_rules! error { ($($text:tt)+) => { $crate::__log!(Error, $($text)+) }; }
