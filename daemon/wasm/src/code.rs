//! Compiled code, packed so that what is damaged, old or foreign is noticed
//! before a byte of it runs.
//!
//! The digest guards against accidents. Against whoever can write the cache
//! guards the system: only the daemon can.

use contract::Fault;
use sha2::{Digest as _, Sha256};

use crate::inspect::no;

const MAGIC: &[u8; 12] = b"sotp-code-1\n";
const DIGEST: usize = 32;

/// Code with its key and a digest of both: magic, digest, the key's length in
/// two bytes, key, code.
pub(crate) fn pack(key: &str, code: &[u8]) -> Result<Vec<u8>, Fault> {
    let key_len = u16::try_from(key.len()).map_err(|_| no("the engine's key is too long"))?;
    let mut packed = Vec::with_capacity(MAGIC.len() + DIGEST + 2 + key.len() + code.len());
    packed.extend_from_slice(MAGIC);
    packed.extend_from_slice(&[0; DIGEST]);
    packed.extend_from_slice(&key_len.to_be_bytes());
    packed.extend_from_slice(key.as_bytes());
    packed.extend_from_slice(code);
    let body = MAGIC.len() + DIGEST;
    let digest = Sha256::digest(&packed[body..]);
    packed[MAGIC.len()..body].copy_from_slice(&digest);
    Ok(packed)
}

/// The code, if it is whole and was compiled for `key`.
pub(crate) fn unpack<'a>(key: &str, packed: &'a [u8]) -> Result<&'a [u8], Fault> {
    let Some(rest) = packed.strip_prefix(MAGIC) else {
        return Err(no("this is no compiled component"));
    };
    let damaged = || no("the compiled component is damaged").with_hint("compile it again");
    let (digest, body) = rest.split_at_checked(DIGEST).ok_or_else(damaged)?;
    if Sha256::digest(body).as_slice() != digest {
        return Err(damaged());
    }
    let (key_len, rest) = body.split_first_chunk::<2>().ok_or_else(damaged)?;
    let key_len = usize::from(u16::from_be_bytes(*key_len));
    let (its_key, code) = rest.split_at_checked(key_len).ok_or_else(damaged)?;
    if its_key != key.as_bytes() {
        let message = format!(
            "the component was compiled for {}, and this engine is {key}",
            String::from_utf8_lossy(its_key)
        );
        return Err(no(message).with_hint("compile it again"));
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_comes_back_and_every_damage_is_noticed() {
        let packed = pack("key", b"code").unwrap();
        assert_eq!(unpack("key", &packed).unwrap(), b"code");
        for place in 0..packed.len() {
            let mut damaged = packed.clone();
            damaged[place] ^= 1;
            assert!(unpack("key", &damaged).is_err(), "byte {place}");
            assert!(unpack("key", &packed[..place]).is_err(), "cut at {place}");
        }
        let fault = unpack("other", &packed).unwrap_err();
        assert!(fault.message.contains("compiled for key"), "{fault}");
    }
}
