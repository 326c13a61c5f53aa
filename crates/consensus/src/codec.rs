//! Reading what the state room encoded, and telling damage from a newer version.

use polybolos_state::{ClusterState, CodecError, ENTRY_VERSION, Entry};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("{what} has format {found}, and this version of Polybolos knows only up to {known}")]
    Newer { what: &'static str, found: u16, known: u16 },
    #[error(transparent)]
    Damaged(CodecError),
}

impl From<CodecError> for DecodeError {
    fn from(error: CodecError) -> Self {
        match error {
            CodecError::Format { what, found, known } if found > known => {
                Self::Newer { what, found: found.into(), known: known.into() }
            }
            other => Self::Damaged(other),
        }
    }
}

/// An entry that this version can apply. The state would skip a newer one, and then differ for good from the replicas
/// that did not: so it must not get that far.
pub(crate) fn decode_entry(bytes: &[u8]) -> Result<Entry, DecodeError> {
    let entry = Entry::decode(bytes)?;
    if entry.version > ENTRY_VERSION {
        return Err(DecodeError::Newer { what: "a log entry", found: entry.version, known: ENTRY_VERSION });
    }
    Ok(entry)
}

pub(crate) fn decode_state(bytes: &[u8]) -> Result<ClusterState, DecodeError> {
    Ok(ClusterState::decode(bytes)?)
}

#[cfg(test)]
mod tests {
    use polybolos_model::Term;
    use polybolos_state::{ENTRY_FORMAT, SNAPSHOT_FORMAT};

    use super::*;

    #[test]
    fn what_a_newer_version_wrote_is_told_from_damage() {
        let entry = Entry::new(Term(3), 4, vec![]);
        let bytes = entry.encode().unwrap();
        assert_eq!(decode_entry(&bytes), Ok(entry.clone()));
        let newer_format = [&[ENTRY_FORMAT + 1][..], &bytes[1..]].concat();
        assert!(matches!(decode_entry(&newer_format), Err(DecodeError::Newer { .. })));
        let newer_version = Entry { version: ENTRY_VERSION + 1, ..entry };
        assert!(matches!(decode_entry(&newer_version.encode().unwrap()), Err(DecodeError::Newer { .. })));
        assert!(matches!(decode_entry(&bytes[..1]), Err(DecodeError::Damaged(_))));
        assert!(matches!(decode_state(&[SNAPSHOT_FORMAT + 1]), Err(DecodeError::Newer { .. })));
        assert!(matches!(decode_state(&[SNAPSHOT_FORMAT]), Err(DecodeError::Damaged(_))));
    }
}
