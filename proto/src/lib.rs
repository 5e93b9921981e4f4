//! The wire: `.proto` files, the code generated from them, conversions and limits.
//!
//! Conversions go `From` outward (a domain value always has a wire form) and `TryFrom` inward (bytes from outside may
//! be wrong). No other crate of the workspace turns wire types into domain types.

mod convert;
pub mod limits;
mod packed;
mod sockets;

pub use convert::{WireError, plan_to_store, stored_plan};

/// Generated from `groundswell/v1/groundswell.proto`; the comments there are the documentation.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::too_many_lines,
    clippy::allow_attributes_without_reason,
    reason = "generated code; the .proto files carry its documentation"
)]
pub mod v1 {
    tonic::include_proto!("groundswell.v1");

    /// Names of secrets, never their values.
    impl std::fmt::Debug for Arm {
        fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            formatter
                .debug_struct("Arm")
                .field("run_id", &self.run_id)
                .field("plan", &self.plan)
                .field("assignment", &self.assignment)
                .field("secrets", &self.secrets.keys())
                .finish()
        }
    }
}
