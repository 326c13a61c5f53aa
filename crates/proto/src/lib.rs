//! The wire: code generated from `proto/`, conversions to and from [`polybolos_model`], bounded services.
//!
//! Deliberately absent: any decision. A message that does not convert is refused with what is wrong with it.

/// Generated from `proto/polybolos/v1/*.proto`.
#[allow(unreachable_pub, clippy::all, clippy::pedantic, missing_docs, reason = "generated code")]
pub mod v1 {
    tonic::include_proto!("polybolos.v1");
}

mod bounded;
mod convert;
mod error;

pub use bounded::{BoundedCodec, BoundedDecoder};
pub use convert::{ConvertError, attempt, error_class};
pub use error::{ERROR_DETAIL_KEY, detail_of, status_with};
