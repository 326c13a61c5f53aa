//! Errors that a client can act on, beside the text of a gRPC status.

use prost::Message;
use tonic::{Code, Status, metadata::MetadataValue};

use crate::v1::ErrorDetail;

/// Metadata key of the encoded [`ErrorDetail`].
pub const ERROR_DETAIL_KEY: &str = "polybolos-error-bin";

/// A status that carries `detail`.
pub fn status_with(code: Code, message: impl Into<String>, detail: &ErrorDetail) -> Status {
    let mut status = Status::new(code, message);
    let value = MetadataValue::from_bytes(&detail.encode_to_vec());
    status.metadata_mut().insert_bin(ERROR_DETAIL_KEY, value);
    status
}

/// The detail that `status` carries, if any.
pub fn detail_of(status: &Status) -> Option<ErrorDetail> {
    let value = status.metadata().get_bin(ERROR_DETAIL_KEY)?;
    ErrorDetail::decode(value.to_bytes().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::error_detail::Reason;

    #[test]
    fn a_detail_survives_the_status() {
        let detail =
            ErrorDetail { reason: Reason::JobNotFound.into(), job_id: "x".into(), leader: String::new() };
        let status = status_with(Code::NotFound, "no such query", &detail);
        assert_eq!(detail_of(&status), Some(detail));
        assert_eq!(detail_of(&Status::internal("plain")), None);
    }
}
