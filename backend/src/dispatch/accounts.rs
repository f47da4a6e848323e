//! Who a token belongs to.

use std::sync::Arc;

use super::Dispatch;
use crate::kms::{Account, Refusal, Status};

impl Dispatch {
    /// The account that this token was issued to.
    ///
    /// # Errors
    /// 401.
    pub fn authenticate(&self, bearer: &str) -> Result<Arc<Account>, Refusal> {
        let _ = bearer;
        Err(Refusal::new(Status::Unauthenticated, "the token is not known here"))
    }
}
