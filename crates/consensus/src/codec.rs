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
            CodecError::Version { what, found, known } => Self::Newer { what, found, known },
            other => Self::Damaged(other),
        }
    }
}

/// An entry that a replica which speaks up to version `speaks` can apply. The state would skip a newer one, and then
/// differ for good from the replicas that did not: so it must not get that far.
pub(crate) fn decode_entry(bytes: &[u8], speaks: u16) -> Result<Entry, DecodeError> {
    Ok(Entry::decode_up_to(bytes, speaks.min(ENTRY_VERSION))?)
}

pub(crate) fn decode_state(bytes: &[u8], speaks: u16) -> Result<ClusterState, DecodeError> {
    Ok(ClusterState::decode_up_to(bytes, speaks.min(ENTRY_VERSION))?)
}

#[cfg(test)]
mod tests {
    use polybolos_model::Term;
    use polybolos_state::{ENTRY_FORMAT, SNAPSHOT_FORMAT};

    use super::*;

    #[test]
    fn what_a_newer_version_wrote_is_told_from_damage() {
        let entry = Entry::new(1, Term(3), 4, vec![]);
        let bytes = entry.encode().unwrap();
        assert_eq!(decode_entry(&bytes, ENTRY_VERSION), Ok(entry.clone()));
        let newer_format = [&[ENTRY_FORMAT + 1][..], &bytes[1..]].concat();
        assert!(matches!(decode_entry(&newer_format, ENTRY_VERSION), Err(DecodeError::Newer { .. })));
        let newer_version = Entry { version: ENTRY_VERSION + 1, ..entry.clone() }.encode().unwrap();
        assert!(matches!(decode_entry(&newer_version, u16::MAX), Err(DecodeError::Newer { .. })));
        let present = Entry { version: ENTRY_VERSION, ..entry }.encode().unwrap();
        assert!(decode_entry(&present, ENTRY_VERSION).is_ok());
        assert!(matches!(decode_entry(&present, ENTRY_VERSION - 1), Err(DecodeError::Newer { .. })));
        assert!(matches!(decode_entry(&bytes[..1], ENTRY_VERSION), Err(DecodeError::Damaged(_))));
        assert!(matches!(decode_state(&[u8::MAX], ENTRY_VERSION), Err(DecodeError::Newer { .. })));
        assert!(matches!(decode_state(&[SNAPSHOT_FORMAT], ENTRY_VERSION), Err(DecodeError::Damaged(_))));
    }
}
