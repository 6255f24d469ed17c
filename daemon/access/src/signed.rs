//! Requests that are signed with a service's token (HMAC-SHA-256).

/// The header of a signed request, taken apart:
/// `SOTP-HMAC-SHA256 key=<id>, ts=<unix seconds>, nonce=<16..64>, signature=<base64>`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHeader<'a> {
    /// The token's number.
    pub key: &'a str,
    /// When it was signed, in seconds since 1970.
    pub timestamp: u64,
    /// What the sender says once only.
    pub nonce: &'a str,
    /// The signature, in base64.
    pub signature: &'a str,
}

impl<'a> SignedHeader<'a> {
    /// What the header begins with.
    pub const SCHEME: &'static str = "SOTP-HMAC-SHA256";

    /// The header's value, if it is of this scheme and complete.
    #[must_use]
    pub fn parse(value: &'a str) -> Option<SignedHeader<'a>> {
        let (scheme, rest) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case(SignedHeader::SCHEME) {
            return None;
        }
        let (mut key, mut timestamp, mut nonce, mut signature) = (None, None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim().split_once('=')?;
            let place = match name {
                "key" => &mut key,
                "ts" => &mut timestamp,
                "nonce" => &mut nonce,
                "signature" => &mut signature,
                _ => return None,
            };
            // said twice, one reader takes the first and another the last
            if place.replace(value).is_some() {
                return None;
            }
        }
        let nonce = nonce.filter(|nonce| (16..=64).contains(&nonce.len()))?;
        nonce
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~+/=".contains(&byte))
            .then_some(())?;
        Some(SignedHeader {
            key: key?,
            timestamp: timestamp?.parse().ok()?,
            nonce,
            signature: signature?,
        })
    }
}
