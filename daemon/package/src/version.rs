//! Versions of plugins and of the contract.

use std::cmp::Ordering;

use semver::Version;

/// The version of the contract that this program offers.
pub const API: (u64, u64) = (1, 0);

/// Longer ones are nobody's.
const VERSION_BYTES: usize = 64;

/// Which of two versions is the newer one, by the precedence of Semantic
/// Versioning (§11: `1.0.0-rc.1` < `1.0.0`, `1.9.0` < `1.10.0`; what stands
/// after a + does not count). What is no version is older than any.
#[must_use]
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (Ok(a), Ok(b)) => a.cmp_precedence(&b),
        (Ok(_), Err(_)) => Ordering::Greater,
        (Err(_), Ok(_)) => Ordering::Less,
        (Err(_), Err(_)) => a.cmp(b),
    }
}

/// Whether `text` is a semantic version.
pub(crate) fn is_version(text: &str) -> bool {
    text.len() <= VERSION_BYTES && Version::parse(text).is_ok()
}

/// `1.0` as numbers.
pub(crate) fn api(text: &str) -> Option<(u64, u64)> {
    let (major, minor) = text.split_once('.')?;
    let number = |digits: &str| {
        let is_plain = digits.chars().all(|c| c.is_ascii_digit()) && digits.len() <= 6;
        digits.parse().ok().filter(|_| is_plain)
    };
    Some((number(major)?, number(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_semantic_versioning_says() {
        // §11.4 of Semantic Versioning 2.0.0 has this row
        let row = [
            "no version",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.9.0",
            "1.10.0",
        ];
        for pair in row.windows(2) {
            assert_eq!(compare_versions(pair[0], pair[1]), Ordering::Less);
            assert_eq!(compare_versions(pair[1], pair[0]), Ordering::Greater);
        }
        assert_eq!(compare_versions("1.0.0+a", "1.0.0+b"), Ordering::Equal);
    }

    #[test]
    fn a_version_has_three_numbers_and_a_contract_two() {
        assert!(is_version("1.2.3-rc.1+build"));
        for bad in ["", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0"] {
            assert!(!is_version(bad), "{bad}");
        }
        assert!(!is_version(&format!("1.0.0-{}", "a".repeat(100))));
        assert_eq!(api("1.0"), Some((1, 0)));
        for bad in ["", "1", "1.", "1.0.0", "+1.0", "1.9999999"] {
            assert_eq!(api(bad), None, "{bad}");
        }
    }
}
