//! Text that says itself whether it is whole: its last line is the SHA-256 of everything before.

use sha2::{Digest as _, Sha256};

use crate::names::Digest;

/// `sha256 `, 64 digits and the end of the line.
const SEAL_BYTES: usize = 7 + 64 + 1;

/// The text, sealed.
pub(crate) fn seal(mut text: String) -> Vec<u8> {
    if !text.ends_with('\n') {
        text.push('\n');
    }
    let line = seal_line(text.as_bytes());
    (text + &line).into_bytes()
}

/// The text within the seal, or what is wrong with it. Exactly what [`seal`] makes is accepted.
pub(crate) fn unseal(bytes: &[u8]) -> Result<&str, String> {
    let Some((text, seal)) = bytes.split_last_chunk::<SEAL_BYTES>() else {
        return Err(format!("it was cut off: it has {} bytes", bytes.len()));
    };
    if !seal.starts_with(b"sha256 ") || !text.ends_with(b"\n") {
        return Err("it was cut off or changed: its last line isn't `sha256` and 64 hex digits".to_owned());
    }
    let computed = seal_line(text);
    if computed.as_bytes() != seal {
        return Err(format!(
            "it was changed: its last line is `{}`, its content has `{}`",
            seal[..SEAL_BYTES - 1].escape_ascii(),
            computed.trim_end()
        ));
    }
    std::str::from_utf8(text).map_err(|e| format!("it isn't UTF-8: {e}"))
}

fn seal_line(text: &[u8]) -> String {
    format!("sha256 {}\n", Digest(Sha256::digest(text).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sealed_is_unsealed() {
        for text in ["", "a", "{}\n", "two\nlines"] {
            let sealed = seal(text.to_owned());
            assert_eq!(unseal(&sealed).unwrap().trim_end(), text.trim_end());
            for at in 0..sealed.len() {
                assert!(unseal(&sealed[..at]).is_err(), "cut at {at}");
                for bit in 0..8 {
                    let mut flipped = sealed.clone();
                    flipped[at] ^= 1 << bit;
                    assert!(unseal(&flipped).is_err(), "bit {bit} of byte {at}");
                }
            }
            assert!(unseal(&[&sealed[..], b"\n"].concat()).is_err());
        }
    }
}
